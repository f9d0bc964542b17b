-- +goose Up
-- The user on whose behalf a transfer was made, in the form of an owner; empty for none.
ALTER TABLE transfers ADD COLUMN on_behalf_of TEXT NOT NULL DEFAULT '';
