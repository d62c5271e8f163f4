"""The kinds of `modelmill.dev/v1alpha1`, one file each, and how they become CRDs (`crd`)."""
