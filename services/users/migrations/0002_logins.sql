-- +goose Up
-- password is a PHC string, empty for none; roles a sorted JSON array; attributes JSON, empty for none.
-- Access tokens of a generation below generation are refused; sessions that began below session_generation are over.
-- raised_sequence is the place of the user's latest raise among those of all users, 0 before the first.
ALTER TABLE users ADD COLUMN password TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN roles TEXT NOT NULL DEFAULT '[]';
ALTER TABLE users ADD COLUMN attributes TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN generation BIGINT NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN session_generation BIGINT NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN raised_sequence BIGINT NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN raised_us BIGINT NOT NULL DEFAULT 0;
CREATE INDEX users_raised ON users (raised_sequence);

-- One row. Whoever raises takes the next number from it and keeps it locked until the end of the transaction, so numbers
-- become visible in their order.
CREATE TABLE raises (
    epoch    TEXT   NOT NULL,
    sequence BIGINT NOT NULL
);
INSERT INTO raises (epoch, sequence) VALUES ('', 0);
