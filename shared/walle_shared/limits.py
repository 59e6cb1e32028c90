"""Every limit of the protocol, with its unit, in one place. Standard library only.

A value from outside that passes one of these raises ``LimitExceeded`` or a ``ProtocolError`` that names it.
"""

from __future__ import annotations

from walle_shared.units import KIB, MIB

# Events
EVENT_MAX_BYTES = 32 * KIB
EVENT_MAX_ARGS = 64
INLET_MAX_EVENTS = 1_024
INLET_MAX_CLIENTS = 64
LISTENED_TASKS_MAX = 32  # for whose results one connection listens
RESULTS_WAITING_MAX = 64  # that an app has not read yet
VISIT_MAX_EVENTS = 2_000
VISIT_MAX_BYTES = 4 * MIB
VISITS_OPEN_MAX = 256
VISITS_OPEN_MAX_BYTES = 32 * MIB
VISIT_MAX_S = 30 * 60.0
VISIT_BACKGROUND_S = 60.0
SLICE_MAX_EVENTS = 2_000
LATE_MAX_EVENTS = 1_000
REORDER_MAX_S = 60.0
LOG_HELD_MAX_EVENTS = 100_000  # kept for the slices of extended triggers that still wait

# Event schemas
SCHEMA_MAX_EVENTS = 10_000
SCHEMA_MAX_VALUES = 1_000

# Triggers
TRIGGER_MAX_IDS = 32
TRIGGERS_MAX = 100_000

# Declared pre-processing
PREPARE_MAX = 32
PREPARE_MAX_PANES = 4_096  # open windows' parts that one stage keeps
PREPARE_MAX_BINS = 64
WINDOW_MAX_MS = 24 * 3_600_000
WINDOW_MAX_OVERLAP = 1_000

# Tasks and bundles
MANIFEST_MAX_BYTES = 256 * KIB
MANIFEST_MAX_FILES = 1_000
DELTAS_MAX = 5_000  # a few for each file of a manifest
DELTAS_MAX_BYTES = 2 * MIB
BUNDLE_FILE_MAX_BYTES = 512 * MIB
IMPORT_FILE_MAX_BYTES = 64 * MIB  # defaults of the control plane's settings
IMPORT_BUNDLE_MAX_BYTES = 256 * MIB
TASK_OUTPUT_MAX_BYTES = 256 * KIB
TASK_ROW_MAX_BYTES = 64 * KIB
TABLE_MAX_ROWS = 10_000
RETENTION_MAX_DAYS = 3_650
STORE_TASK_MAX_BYTES = 16 * MIB
STORE_KEY_MAX_CHARS = 200
STORE_VALUE_MAX_BYTES = 64 * KIB

# Policy
PREDICATE_MAX_CHARS = 4_000
PREDICATE_MAX_DEPTH = 32
SEGMENTS_MAX_DEPTH = 8
SEGMENTS_MAX_WEIGHT = 256
SET_MAX_IDS = 1_000_000
SET_UPLOAD_MAX_BYTES = 128 * MIB
WINDOWS_MAX_CHARS = 500
EPOCH_MAX_BYTES = 16 * KIB
SNAPSHOT_MAX_BYTES = 16 * MIB
PROFILE_MAX_BYTES = 8 * KIB

# Trust: metadata of The Update Framework, and exclusive manifests
TUF_ROOT_MAX_BYTES = 64 * KIB
TUF_TIMESTAMP_MAX_BYTES = 16 * KIB
TUF_SNAPSHOT_MAX_BYTES = 512 * KIB
TUF_TARGETS_MAX_BYTES = 2 * MIB
TUF_ROOTS_MAX = 256  # new roots followed in one go
EXCLUSIVE_MAX_BYTES = 256 * KIB
EXCLUSIVE_MAX_FILES = 256
EXCLUSIVE_FILE_MAX_BYTES = 64 * MIB
TIME_NONCE_CHARS = 32
BODY_SLOWEST_BYTES_PER_S = 2 * KIB  # a peer that sends a body slower than this is given up

# What a release may ask of devices, should it fail there: tries, and seconds that it is left alone
ATTEMPTS_MAX = 100
QUARANTINE_MAX_S = 365 * 24 * 3600.0

# Device API
REPORT_BATCH_MAX = 256
REQUEST_MAX_BYTES = 1 * MIB

# Tunnel
FRAME_MAX_BYTES = 256 * KIB
FRAME_MAX_INFLATED_BYTES = 2 * MIB
TUNNEL_WINDOW_FRAMES = 64
# Enough to keep 10 Mbit/s busy over 50 ms, and little enough that a realtime record waits for half a second
# behind batch records on 1 Mbit/s. A frame may reach beyond it, so one of any size can be sent.
TUNNEL_WINDOW_BYTES = 64 * KIB
TUNNEL_GAPS_MAX = 64

# Questions to the cloud half of a task
CLOUD_PAYLOAD_MAX_BYTES = 64 * KIB
CLOUD_DATA_MAX_BYTES = 256 * KIB
CLOUD_LATER_DATA_MAX_BYTES = 64 * KIB  # it travels as text in a record
CLOUD_ANSWER_MAX_BYTES = 64 * KIB
CLOUD_PUSH_MAX_BYTES = 24 * KIB  # it becomes an event
CLOUD_PART_BYTES = 32 * KIB  # of the data, between which acknowledgements get through
CLOUD_ASKS_OPEN_MAX = 16  # of one device, unanswered
CLOUD_ASK_MAX_S = 600.0
CLOUD_WORKERS_MAX = 256

# Learning together
LEARNING_PART_BYTES = (
    45_000  # of an update in one record: with base64 and names around it, it fits a row of the container
)
LEARNING_BLOCK = 256  # numbers of an update that share a scale
LEARNING_MODEL_MAX_BYTES = 16 * MIB  # what is trained of a model, as float32
LEARNING_ROUNDS_MAX_BYTES = 256 * KIB
LEARNING_HOLDOUT_MAX_BYTES = 64 * MIB

# Container socketpair
CONTAINER_FRAME_MAX_BYTES = 16 * MIB

# Files that the app hands over to tasks
INBOX_FILE_MAX_BYTES = 16 * MIB

# Image files that tasks read
IMAGE_FILE_MAX_BYTES = 64 * MIB
IMAGE_MAX_PIXELS = 64 * 1024 * 1024
