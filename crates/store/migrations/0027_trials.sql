-- One trial for each claimant: a company, or a person at a public provider of mail. Claimants are keyed hashes.
CREATE TABLE trials (
    claimant TEXT NOT NULL PRIMARY KEY,
    -- The client whose trial it is: the first who confirms an address. NULL until then, so that nobody takes
    -- another's trial by typing their address. It stays when the client is deleted.
    holder   TEXT,
    held_at  BIGINT
);

-- For whom a client signed up. Clients that no rule is about have no row.
CREATE TABLE trial_claims (
    client_id TEXT NOT NULL PRIMARY KEY REFERENCES clients (id),
    claimant  TEXT NOT NULL REFERENCES trials (claimant)
);
CREATE INDEX trial_claims_claimant ON trial_claims (claimant, client_id);
