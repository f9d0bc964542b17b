-- +goose Up
-- Times are microseconds since 1970, amounts are minor units. Nothing is ever deleted, and only accounts change.
CREATE TABLE accounts (
    account_id     TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    owner          TEXT    NOT NULL,
    currency       TEXT    NOT NULL,
    allow_negative BOOLEAN NOT NULL,
    -- The sum and the number of the account's entries.
    balance        BIGINT  NOT NULL,
    entries        BIGINT  NOT NULL,
    created_us     BIGINT  NOT NULL,
    CHECK (allow_negative OR balance >= 0)
);

CREATE TABLE transfers (
    transfer_id  TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    from_account TEXT COLLATE "binary" NOT NULL REFERENCES accounts (account_id),
    to_account   TEXT COLLATE "binary" NOT NULL REFERENCES accounts (account_id),
    currency     TEXT   NOT NULL,
    minor_units  BIGINT NOT NULL CHECK (minor_units > 0),
    note         TEXT   NOT NULL,
    caller       TEXT   NOT NULL,
    created_us   BIGINT NOT NULL,
    CHECK (from_account <> to_account)
);

-- entry_no counts 1, 2, 3 in each account, in the order in which the entries were committed: the account's row is locked
-- from before the number is drawn until after the commit. So whoever has seen entry 7 will never find a new entry 6, which
-- a sequence of the database could not promise.
CREATE TABLE entries (
    account_id  TEXT COLLATE "binary" NOT NULL REFERENCES accounts (account_id),
    entry_no    BIGINT NOT NULL,
    transfer_id TEXT COLLATE "binary" NOT NULL REFERENCES transfers (transfer_id),
    minor_units BIGINT NOT NULL,
    balance     BIGINT NOT NULL,
    created_us  BIGINT NOT NULL,
    PRIMARY KEY (account_id, entry_no)
);
