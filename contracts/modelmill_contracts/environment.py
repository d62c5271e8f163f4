"""Names that the operator writes into pods and that the programs in them read."""

STORE_ACCESS_KEY = "AWS_ACCESS_KEY_ID"
STORE_SECRET_KEY = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 - the variable's name
# The source of a Dataset may need credentials of its own, next to the store's.
SOURCE_PREFIX = "MILL_SOURCE_"

SOURCE_URL = f"{SOURCE_PREFIX}URL"  # of the database that a query is for

# A store or source of gs:// or az://; absent: the pod's own identity.
GOOGLE_KEY = "GOOGLE_SERVICE_ACCOUNT_KEY"
AZURE_ACCOUNT = "AZURE_STORAGE_ACCOUNT_NAME"
AZURE_KEY = "AZURE_STORAGE_ACCOUNT_KEY"

# Of an MLflow server, by MLflow's own names, and the keys of its Secret.
MLFLOW_USERNAME = "MLFLOW_TRACKING_USERNAME"
MLFLOW_PASSWORD = "MLFLOW_TRACKING_PASSWORD"  # noqa: S105 - the variable's name
MLFLOW_TOKEN = "MLFLOW_TRACKING_TOKEN"  # noqa: S105 - the variable's name
MLFLOW_KEYS = {MLFLOW_USERNAME: "username", MLFLOW_PASSWORD: "password", MLFLOW_TOKEN: "token"}

# Outside of Kubernetes: where a report is written instead of report.PATH, and the port of progress instead of 9090.
REPORT = "MILL_REPORT"
PROGRESS_PORT = "MILL_PROGRESS_PORT"

# Of a training by several pods: how many, which of them this one is (Kubernetes' own name), where the first one's
# scheduler is (host:port), and what all of them and nobody else are told.
WORKERS = "MILL_WORKERS"
INDEX = "JOB_COMPLETION_INDEX"
SCHEDULER = "MILL_SCHEDULER"
JOB_UID = "MILL_JOB_UID"
WORKER_PORT_VARIABLE = "MILL_WORKER_PORT"  # outside of Kubernetes: where the worker listens instead of 8787

SECRET_ACCESS_KEY_FIELD = "accessKeyId"  # noqa: S105 - the keys of a store's Secret
SECRET_SECRET_KEY_FIELD = "secretAccessKey"  # noqa: S105

GOOGLE_KEY_FIELD = "serviceAccountKey"
AZURE_ACCOUNT_FIELD = "accountName"
AZURE_KEY_FIELD = "accountKey"

STORE_LOCATION = "MILL_STORE"  # JSON of task.StoreLocation, for the model server's fetch
SERVER_HOST = "MILL_HOST"  # where the model server listens unless it is told; the image's is all addresses
# What a user's own container is told: the folder of the artifact, what to serve it as, and where to listen.
OWN_MODEL = "MILL_MODEL"
OWN_NAME = "MILL_MODEL_NAME"
OWN_VERSION = "MILL_MODEL_VERSION"
OWN_PORT = "MILL_PORT"

MODEL_FOLDER = "/mnt/model"
SOURCE_FOLDER = "/mnt/source"
STORE_FOLDER = "/mnt/store"  # where a store of pvc:// is mounted; its location's uri is file:///mnt/store/...
DATA_FOLDER = "/mnt/data"  # what a user's container reads: MILL_DATA
OUTPUT_FOLDER = "/mnt/output"  # what it writes: MILL_OUTPUT
DATA = "MILL_DATA"
OUTPUT = "MILL_OUTPUT"
ROUTES_FOLDER = "/mnt/routes"
CAPTURE_FOLDER = "/mnt/capture"  # where the server hands rows and labels to the container that writes them
CAPTURE_SOCKET = f"{CAPTURE_FOLDER}/socket"
WORK_FOLDER = "/tmp"  # noqa: S108 - the pod's own emptyDir

HTTP_PORT = 8080
GRPC_PORT = 8081
METRICS_PORT = 9090
# Between the pods of one training.
SCHEDULER_PORT = 8786
WORKER_PORT = 8787
RENDEZVOUS_PORT = 29400  # of users' containers; their processes choose further ports by themselves
