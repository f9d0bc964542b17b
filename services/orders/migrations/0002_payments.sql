-- +goose Up
-- What ledger knows the payment by: the request_id of the transfer, and the SPIFFE ID of the workload that signed it, as its
-- proof claims; the signer is empty for a payment that orders itself made on behalf of the user.
ALTER TABLE orders ADD COLUMN payment_request TEXT COLLATE "binary" NOT NULL DEFAULT '';

ALTER TABLE orders ADD COLUMN payment_signer TEXT COLLATE "binary" NOT NULL DEFAULT '';

-- One payment is for one order. Orders that are older than these columns have neither, and nobody settles those that are
-- still PENDING.
CREATE UNIQUE INDEX orders_by_payment ON orders (payment_signer, payment_request) WHERE payment_request <> '';

CREATE UNIQUE INDEX orders_by_transfer ON orders (transfer_id) WHERE transfer_id <> '';
