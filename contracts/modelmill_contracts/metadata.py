"""Where clouds give out credentials to whoever asks: no source is read from there, and no pod with a Secret gets there.

As networks, since a NetworkPolicy's exceptions are such.
"""

IPV4 = (
    "169.254.0.0/16",  # link-local: AWS, Google, Azure, and most others
    "168.63.129.16/32",  # Azure's wire server
    "100.100.100.200/32",  # Alibaba
    "192.0.0.192/32",  # Oracle
)
IPV6 = (
    "fe80::/10",  # link-local
    "fd00:ec2::/32",  # AWS: instances (::254), Pod Identity (::23); names are asked for on port 53, which stays open
    "fd20:ce::254/128",  # Google
)
