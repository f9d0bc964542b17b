-- +goose Up
-- Times are microseconds since 1970. Rows are never deleted: a username is not used again.
CREATE TABLE users (
    username     TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    display_name TEXT    NOT NULL,
    email        TEXT    NOT NULL,
    disabled     BOOLEAN NOT NULL,
    created_us   BIGINT  NOT NULL,
    updated_us   BIGINT  NOT NULL
);
