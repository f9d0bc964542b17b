-- +goose Up
-- Times are microseconds since 1970.
--
-- One row for each key that a workload has announced and that has not expired. The chain is a JSON array of certificates, DER
-- in base64, leaf first. The sequence is the one of the announcement.
CREATE TABLE announced (
    spiffe_id  TEXT   NOT NULL,
    kid        TEXT   NOT NULL,
    chain      TEXT   NOT NULL,
    expires_us BIGINT NOT NULL,
    sequence   BIGINT NOT NULL UNIQUE,
    PRIMARY KEY (spiffe_id, kid)
);
CREATE INDEX announced_expires ON announced (expires_us);

-- One row. Whoever announces takes the next number from it and keeps it locked until the end of the transaction, so numbers
-- become visible in their order. identities is how many have a row in announced.
CREATE TABLE state (
    epoch      TEXT   NOT NULL,
    sequence   BIGINT NOT NULL,
    identities BIGINT NOT NULL
);
INSERT INTO state (epoch, sequence, identities) VALUES ('', 0, 0);
