//! Durable steps: what runs next, leases, retries, undo.
