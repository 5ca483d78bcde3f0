-- Refunds and disputes, as the till has them.
CREATE TABLE reversals (
    id           TEXT   NOT NULL PRIMARY KEY,
    client_id    TEXT   NOT NULL REFERENCES clients (id),
    kind         TEXT   NOT NULL,
    charge       TEXT   NOT NULL,
    amount_cents BIGINT NOT NULL,
    -- What of it is missing from the revenue: nothing when it was won or did not get through.
    taken_cents  BIGINT NOT NULL,
    state        TEXT   NOT NULL,
    reason       TEXT,
    created_at   BIGINT NOT NULL,
    due_at       BIGINT,
    -- Until when somebody must answer; NULL when nobody need.
    answer_by    BIGINT
);
CREATE INDEX reversals_client ON reversals (client_id, created_at, id);
CREATE INDEX reversals_created ON reversals (created_at);
CREATE INDEX reversals_answer ON reversals (answer_by) WHERE answer_by IS NOT NULL;
