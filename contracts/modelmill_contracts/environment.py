"""Names that the operator writes into pods and that the programs in them read."""

STORE_ACCESS_KEY = "AWS_ACCESS_KEY_ID"
STORE_SECRET_KEY = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 - the variable's name
# The source of a Dataset may need credentials of its own, next to the store's.
SOURCE_PREFIX = "MILL_SOURCE_"

REPORT = "MILL_REPORT"  # where a report is written instead of report.PATH, outside of Kubernetes

SECRET_ACCESS_KEY_FIELD = "accessKeyId"  # noqa: S105 - the keys of a store's Secret
SECRET_SECRET_KEY_FIELD = "secretAccessKey"  # noqa: S105

STORE_LOCATION = "MILL_STORE"  # JSON of task.StoreLocation, for the model server's fetch
SERVER_HOST = "MILL_HOST"  # where the model server listens unless it is told; the image's is all addresses
# What a user's own container is told: the folder of the artifact, what to serve it as, and where to listen.
OWN_MODEL = "MILL_MODEL"
OWN_NAME = "MILL_MODEL_NAME"
OWN_VERSION = "MILL_MODEL_VERSION"
OWN_PORT = "MILL_PORT"

MODEL_FOLDER = "/mnt/model"
SOURCE_FOLDER = "/mnt/source"
ROUTES_FOLDER = "/mnt/routes"
WORK_FOLDER = "/tmp"  # noqa: S108 - the pod's own emptyDir

HTTP_PORT = 8080
GRPC_PORT = 8081
METRICS_PORT = 9090
