-- What the carriers of mails told, each once. client_id is set where the mail was the client's own, and not one
-- of ours to them.
CREATE TABLE mail_events (
    id          TEXT   NOT NULL PRIMARY KEY,
    mail_id     TEXT,
    client_id   TEXT   REFERENCES clients (id),
    address     TEXT   NOT NULL,
    fate        TEXT   NOT NULL,
    detail      TEXT   NOT NULL,
    at          BIGINT NOT NULL,
    received_at BIGINT NOT NULL
);
CREATE INDEX mail_events_mail ON mail_events (mail_id, at, id) WHERE mail_id IS NOT NULL;
CREATE INDEX mail_events_client ON mail_events (client_id, at) WHERE client_id IS NOT NULL;
CREATE INDEX mail_events_received ON mail_events (received_at);

-- Addresses that get no more mail.
CREATE TABLE suppressions (
    address  TEXT   NOT NULL PRIMARY KEY,
    fate     TEXT   NOT NULL,
    detail   TEXT   NOT NULL,
    event_id TEXT   NOT NULL,
    since    BIGINT NOT NULL
);
CREATE INDEX suppressions_since ON suppressions (since, address);

CREATE INDEX mails_created ON mails (created_at, id);
CREATE INDEX mails_state ON mails (state, created_at, id);
