-- What a period comes to for a client whose promotion code lowers it; NULL is the plan's price.
ALTER TABLE clients ADD COLUMN price_cents BIGINT;
ALTER TABLE terms ADD COLUMN price_cents BIGINT;
