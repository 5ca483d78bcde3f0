-- What an instance's setup said when it last failed, until its agent has enrolled.
ALTER TABLE instances ADD COLUMN setup_log TEXT;
ALTER TABLE instances ADD COLUMN setup_failed_at BIGINT;
