-- +goose Up
-- Times are microseconds since 1970. Of refresh tokens there are hashes alone, SHA-256 in base64url.
--
-- One row for each session (a family of refresh tokens). The locator is what all its refresh tokens begin with;
-- current_token is the one that the next refresh takes. role_subset is a JSON array, empty for all that the user holds;
-- generation that of the user at login. revoked_us is 0 while the session goes on.
CREATE TABLE sessions (
    locator       TEXT   NOT NULL PRIMARY KEY,
    session       TEXT   NOT NULL UNIQUE,
    username      TEXT   NOT NULL,
    client_id     TEXT   NOT NULL,
    role_subset   TEXT   NOT NULL,
    generation    BIGINT NOT NULL,
    auth_us       BIGINT NOT NULL,
    refreshed_us  BIGINT NOT NULL,
    idle_ends_us  BIGINT NOT NULL,
    ends_us       BIGINT NOT NULL,
    revoked_us    BIGINT NOT NULL DEFAULT 0,
    current_token TEXT   NOT NULL
);
CREATE INDEX sessions_username ON sessions (username);
CREATE INDEX sessions_idle_ends ON sessions (idle_ends_us);

-- Tokens that were used within the grace, each with its successor, which only who has the used one can decrypt.
CREATE TABLE spent (
    session   TEXT   NOT NULL,
    token     TEXT   NOT NULL,
    used_us   BIGINT NOT NULL,
    successor TEXT   NOT NULL,
    PRIMARY KEY (session, token)
);
CREATE INDEX spent_used ON spent (used_us);

-- What was revoked and may still be about: a session, or every generation of a user below one.
CREATE TABLE revocations (
    sequence   BIGINT NOT NULL PRIMARY KEY,
    session    TEXT   NOT NULL,
    username   TEXT   NOT NULL,
    generation BIGINT NOT NULL,
    forget_us  BIGINT NOT NULL
);
CREATE INDEX revocations_username ON revocations (username);

-- Generations that users is still to raise. generation is -1 until users has been asked for the present one.
CREATE TABLE raises (
    username   TEXT   NOT NULL PRIMARY KEY,
    generation BIGINT NOT NULL,
    version    BIGINT NOT NULL
);

-- Public keys of access tokens, of all replicas, as JSON (RFC 7517). A replica prolongs its own while it signs with it.
CREATE TABLE signing_keys (
    kid     TEXT   NOT NULL PRIMARY KEY,
    jwk     TEXT   NOT NULL,
    ends_us BIGINT NOT NULL
);

-- One row. Whoever revokes takes the next number from it and keeps it locked until the end of the transaction, so numbers
-- become visible in their order. key_version grows when keys change.
CREATE TABLE state (
    epoch       TEXT   NOT NULL,
    sequence    BIGINT NOT NULL,
    key_version BIGINT NOT NULL
);
INSERT INTO state (epoch, sequence, key_version) VALUES ('', 0, 0);
