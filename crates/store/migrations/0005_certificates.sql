-- Of the certificate that an agent made itself, and what it says that it shows to visitors.
ALTER TABLE instances ADD COLUMN fingerprint TEXT;
ALTER TABLE instances ADD COLUMN edition TEXT;

-- A certificate of a CA for a domain of ours, and the way to the next one. What is secret in it is sealed.
-- next_at is on the database's own clock: whoever moves it on has the row to themselves until then.
CREATE TABLE certificates (
    domain      TEXT    NOT NULL PRIMARY KEY,
    directory   TEXT,
    sealed      TEXT,
    fingerprint TEXT,
    not_before  BIGINT,
    not_after   BIGINT,
    renew_at    BIGINT,
    progress    TEXT,
    ordered_at  BIGINT,
    published   BOOLEAN NOT NULL,
    attempts    BIGINT  NOT NULL,
    error       TEXT,
    next_at     BIGINT  NOT NULL,
    fence       BIGINT  NOT NULL
);
