-- +goose Up
-- Whose key signed the request, and its request_id. signer is empty, and request_id NULL, for imports and for what was made
-- before requests were signed.
ALTER TABLE transfers ADD COLUMN signer TEXT NOT NULL DEFAULT '';
ALTER TABLE transfers ADD COLUMN request_id TEXT COLLATE "binary";
-- Rows of requests that took effect once expire; transfers do not, and a request makes one at most.
CREATE UNIQUE INDEX transfers_request ON transfers (request_id, caller, signer, on_behalf_of) WHERE request_id IS NOT NULL;
