-- What costs and what brings money, and when: so that a month can be added up exactly. until_at and released_at
-- are NULL while it goes on.

ALTER TABLE instances ADD COLUMN launched_at BIGINT;
ALTER TABLE instances ADD COLUMN released_at BIGINT;
UPDATE instances SET launched_at = created_at WHERE cloud_id IS NOT NULL;
UPDATE instances SET released_at = coalesce(
    (SELECT r.deleted_at FROM resources r WHERE r.id = instances.id), created_at) WHERE state = 'released';
CREATE INDEX instances_released ON instances (released_at);

-- Who had a stack where: a row of stacks, kept with its dates.
CREATE TABLE placements (
    client_id   TEXT   NOT NULL REFERENCES clients (id),
    instance_id TEXT   NOT NULL REFERENCES instances (id),
    from_at     BIGINT NOT NULL,
    until_at    BIGINT,
    PRIMARY KEY (client_id, instance_id, from_at)
);
CREATE INDEX placements_instance ON placements (instance_id, until_at);
CREATE INDEX placements_until ON placements (until_at);
INSERT INTO placements (client_id, instance_id, from_at)
    SELECT s.client_id, s.instance_id, CASE WHEN c.created_at > i.created_at THEN c.created_at ELSE i.created_at END
    FROM stacks s JOIN clients c ON c.id = s.client_id JOIN instances i ON i.id = s.instance_id;

-- Who paid for which plan. What was before this migration is as if it had always been so.
CREATE TABLE terms (
    client_id        TEXT   NOT NULL REFERENCES clients (id),
    plan             TEXT   NOT NULL,
    billing_interval TEXT   NOT NULL,
    from_at          BIGINT NOT NULL,
    until_at         BIGINT,
    PRIMARY KEY (client_id, from_at)
);
CREATE INDEX terms_until ON terms (until_at);
INSERT INTO terms (client_id, plan, billing_interval, from_at)
    SELECT id, plan, coalesce(billing_interval, 'month'), created_at FROM clients WHERE state IN ('active', 'past_due');

-- Until when what is stored there has been counted into its months.
ALTER TABLE usages ADD COLUMN counted_until BIGINT;

-- What a client used in a month, which is named by its first millisecond in UTC.
CREATE TABLE usage_months (
    client_id     TEXT   NOT NULL REFERENCES clients (id),
    month         BIGINT NOT NULL,
    -- What was stored, times how long: KiB times seconds.
    kib_seconds   BIGINT NOT NULL,
    -- The most at once, of both.
    storage_bytes BIGINT NOT NULL,
    members       BIGINT NOT NULL,
    mails         BIGINT NOT NULL,
    requests      BIGINT NOT NULL,
    traffic_bytes BIGINT NOT NULL,
    PRIMARY KEY (client_id, month)
);
CREATE INDEX usage_months_month ON usage_months (month);
