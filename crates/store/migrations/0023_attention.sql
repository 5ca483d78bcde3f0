-- When it parked, as long as no operator has been told of it.
ALTER TABLE flows ADD COLUMN untold_at BIGINT;
ALTER TABLE till_events ADD COLUMN untold_at BIGINT;
CREATE INDEX flows_untold ON flows (untold_at, id) WHERE untold_at IS NOT NULL;
CREATE INDEX till_events_untold ON till_events (untold_at, id) WHERE untold_at IS NOT NULL;
