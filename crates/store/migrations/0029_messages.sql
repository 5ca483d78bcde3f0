-- Whom an answer to a mail goes to, when not to whoever sent it.
ALTER TABLE mails ADD COLUMN reply_to TEXT;
-- What visitors of a client's site wrote counts as that client's mail.
CREATE INDEX mails_messages ON mails (client_id, created_at) WHERE kind = 'message';
