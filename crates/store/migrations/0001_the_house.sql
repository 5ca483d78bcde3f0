-- Portable: only TEXT, BIGINT and BOOLEAN, so that SQLite and PostgreSQL run the same file. Times are
-- milliseconds since the Unix epoch. Unique indexes are named table_column: errors are told by that name.
-- Each next_at column is NULL when nothing is due by itself, so that its index holds only what may come due.

CREATE TABLE instances (
    id             TEXT   NOT NULL PRIMARY KEY,
    cloud_id       TEXT,
    kind           TEXT   NOT NULL,
    instance_type  TEXT   NOT NULL,
    capacity       BIGINT NOT NULL,
    state          TEXT   NOT NULL,
    front          TEXT,
    control        TEXT,
    version        TEXT,
    enrolled_at    BIGINT,
    last_report_at BIGINT,
    created_at     BIGINT NOT NULL
);
CREATE UNIQUE INDEX instances_cloud_id ON instances (cloud_id);
CREATE INDEX instances_kind ON instances (kind, state);
CREATE INDEX instances_created ON instances (created_at, id);

CREATE TABLE clients (
    id               TEXT   NOT NULL PRIMARY KEY,
    company          TEXT   NOT NULL,
    plan             TEXT   NOT NULL,
    billing_interval TEXT,
    state            TEXT   NOT NULL,
    life             TEXT   NOT NULL,
    next_at          BIGINT,
    stack            TEXT   NOT NULL,
    hosting_id       TEXT   REFERENCES instances (id),
    host             TEXT   NOT NULL,
    customer_id      TEXT,
    subscription_id  TEXT,
    certificate      TEXT,
    portal_rotation  BIGINT NOT NULL,
    created_at       BIGINT NOT NULL
);
CREATE UNIQUE INDEX clients_host ON clients (host);
CREATE UNIQUE INDEX clients_customer_id ON clients (customer_id);
CREATE INDEX clients_next_at ON clients (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX clients_state ON clients (state);
CREATE INDEX clients_created ON clients (created_at, id);
CREATE INDEX clients_hosting ON clients (hosting_id);

CREATE TABLE members (
    id                TEXT   NOT NULL PRIMARY KEY,
    client_id         TEXT   REFERENCES clients (id),
    email             TEXT   NOT NULL,
    first_name        TEXT   NOT NULL,
    last_name         TEXT   NOT NULL,
    role              TEXT   NOT NULL,
    password_hash     TEXT,
    email_verified_at BIGINT,
    created_at        BIGINT NOT NULL
);
CREATE UNIQUE INDEX members_email ON members (email);
CREATE INDEX members_client ON members (client_id, created_at);
CREATE INDEX members_role ON members (role);

CREATE TABLE sessions (
    id            TEXT   NOT NULL PRIMARY KEY,
    member_id     TEXT   NOT NULL REFERENCES members (id) ON DELETE CASCADE,
    refresh_hash  TEXT   NOT NULL,
    previous_hash TEXT,
    rotated_at    BIGINT NOT NULL,
    expires_at    BIGINT NOT NULL,
    created_at    BIGINT NOT NULL
);
CREATE UNIQUE INDEX sessions_refresh_hash ON sessions (refresh_hash);
CREATE INDEX sessions_previous_hash ON sessions (previous_hash);
CREATE INDEX sessions_member ON sessions (member_id);
CREATE INDEX sessions_expires ON sessions (expires_at);

CREATE TABLE tokens (
    hash       TEXT   NOT NULL PRIMARY KEY,
    purpose    TEXT   NOT NULL,
    subject    TEXT   NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at    BIGINT
);
CREATE INDEX tokens_expires ON tokens (expires_at);

-- Who has a stack where. During a migration a client has two.
CREATE TABLE stacks (
    client_id   TEXT NOT NULL REFERENCES clients (id),
    instance_id TEXT NOT NULL REFERENCES instances (id),
    PRIMARY KEY (client_id, instance_id)
);
CREATE INDEX stacks_instance ON stacks (instance_id);

CREATE TABLE usages (
    client_id     TEXT   NOT NULL REFERENCES clients (id),
    instance_id   TEXT   NOT NULL REFERENCES instances (id),
    storage_bytes BIGINT NOT NULL,
    files         BIGINT NOT NULL,
    requests      BIGINT NOT NULL,
    traffic_bytes BIGINT NOT NULL,
    last_requests BIGINT NOT NULL,
    last_traffic  BIGINT NOT NULL,
    reported_at   BIGINT NOT NULL,
    PRIMARY KEY (client_id, instance_id)
);

-- The ledger. A row is here before its resource is in any cloud, and stays as its receipt.
CREATE TABLE resources (
    id         TEXT   NOT NULL PRIMARY KEY,
    kind       TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    cloud_id   TEXT,
    client_id  TEXT   REFERENCES clients (id),
    state      TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    deleted_at BIGINT
);
CREATE INDEX resources_client ON resources (client_id, created_at, id);
CREATE INDEX resources_created ON resources (created_at, id);
CREATE INDEX resources_live ON resources (created_at, id) WHERE deleted_at IS NULL;

CREATE TABLE flows (
    id          TEXT    NOT NULL PRIMARY KEY,
    kind        TEXT    NOT NULL,
    version     BIGINT  NOT NULL,
    subject     TEXT    NOT NULL,
    -- Counts the flows of one subject: they run in this order.
    place       BIGINT  NOT NULL,
    supersedes  BOOLEAN NOT NULL,
    params      TEXT    NOT NULL,
    state       TEXT    NOT NULL,
    undoing     BOOLEAN NOT NULL,
    cause       TEXT,
    next_at     BIGINT,
    created_at  BIGINT  NOT NULL,
    finished_at BIGINT
);
CREATE UNIQUE INDEX flows_subject_place ON flows (subject, place);
CREATE INDEX flows_unfinished ON flows (subject, place) WHERE finished_at IS NULL;
CREATE INDEX flows_next_at ON flows (next_at, id) WHERE next_at IS NOT NULL;
CREATE INDEX flows_state ON flows (state, created_at, id);
CREATE INDEX flows_created ON flows (created_at, id);

CREATE TABLE steps (
    flow_id      TEXT    NOT NULL REFERENCES flows (id),
    name         TEXT    NOT NULL,
    place        BIGINT  NOT NULL,
    title        TEXT    NOT NULL,
    needs        TEXT    NOT NULL,
    is_commit    BOOLEAN NOT NULL,
    api          TEXT    NOT NULL,
    max_attempts BIGINT  NOT NULL,
    turn_back    BOOLEAN NOT NULL,
    state        TEXT    NOT NULL,
    attempts     BIGINT  NOT NULL,
    run_at       BIGINT  NOT NULL,
    lease_owner  TEXT,
    lease_until  BIGINT,
    fence        BIGINT  NOT NULL,
    started_at   BIGINT,
    finished_at  BIGINT,
    error        TEXT,
    note         TEXT,
    output       TEXT    NOT NULL,
    PRIMARY KEY (flow_id, name)
);
CREATE INDEX steps_lease ON steps (lease_until, api) WHERE lease_until IS NOT NULL;

CREATE TABLE mails (
    id         TEXT   NOT NULL PRIMARY KEY,
    client_id  TEXT   REFERENCES clients (id),
    kind       TEXT   NOT NULL,
    recipient  TEXT   NOT NULL,
    subject    TEXT   NOT NULL,
    text_body  TEXT   NOT NULL,
    html_body  TEXT   NOT NULL,
    state      TEXT   NOT NULL,
    attempts   BIGINT NOT NULL,
    error      TEXT,
    next_at    BIGINT,
    created_at BIGINT NOT NULL,
    sent_at    BIGINT
);
CREATE INDEX mails_next_at ON mails (next_at, id) WHERE next_at IS NOT NULL;
CREATE INDEX mails_client ON mails (client_id, created_at, id);

CREATE TABLE till_events (
    id          TEXT   NOT NULL PRIMARY KEY,
    kind        TEXT   NOT NULL,
    payload     TEXT   NOT NULL,
    state       TEXT   NOT NULL,
    attempts    BIGINT NOT NULL,
    error       TEXT,
    next_at     BIGINT,
    received_at BIGINT NOT NULL,
    handled_at  BIGINT
);
CREATE INDEX till_events_next_at ON till_events (next_at, id) WHERE next_at IS NOT NULL;

CREATE TABLE contacts (
    id         TEXT   NOT NULL PRIMARY KEY,
    name       TEXT   NOT NULL,
    email      TEXT   NOT NULL,
    message    TEXT   NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX contacts_created ON contacts (created_at, id);

CREATE TABLE audits (
    id        TEXT   NOT NULL PRIMARY KEY,
    at        BIGINT NOT NULL,
    actor     TEXT   NOT NULL,
    action    TEXT   NOT NULL,
    client_id TEXT,
    detail    TEXT   NOT NULL
);
CREATE INDEX audits_at ON audits (at, id);
CREATE INDEX audits_client ON audits (client_id, at, id);

CREATE TABLE rates (
    name       TEXT   NOT NULL PRIMARY KEY,
    starts_at  BIGINT NOT NULL,
    used       BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX rates_expires ON rates (expires_at);
