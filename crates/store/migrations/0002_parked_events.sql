CREATE INDEX till_events_parked ON till_events (state, received_at, id) WHERE state = 'parked';
