-- +goose Up
-- Times are microseconds since 1970, prices are minor units. state is the number of orders.v1.Order.State.
CREATE TABLE orders (
    order_id          TEXT COLLATE "binary" NOT NULL PRIMARY KEY,
    username          TEXT COLLATE "binary" NOT NULL,
    item              TEXT   NOT NULL,
    currency          TEXT   NOT NULL,
    minor_units       BIGINT NOT NULL CHECK (minor_units > 0),
    paying_account    TEXT   NOT NULL,
    receiving_account TEXT   NOT NULL,
    state             BIGINT NOT NULL,
    transfer_id       TEXT   NOT NULL,
    failure           TEXT   NOT NULL,
    created_us        BIGINT NOT NULL
);

CREATE INDEX orders_by_time ON orders (created_us, order_id);

CREATE INDEX orders_by_user ON orders (username, created_us, order_id);
