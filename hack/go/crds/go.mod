// Kinds of others that Modelmill uses where they are there: only their CRDs are read, by the tests
// (tests/apiserver/upstream_kinds.py).
module modelmill.dev/hack/crds

go 1.26.0

require (
	github.com/kedacore/keda/v2 v2.20.2
	sigs.k8s.io/gateway-api v1.5.1
)
