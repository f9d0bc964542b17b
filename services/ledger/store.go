package ledger

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/internal/store"
)

// account is a row; balance and entries are those at the time it was read.
type account struct {
	id, owner, currency string
	allowNegative       bool
	balance, entries    int64
	created             time.Time
}

func (a account) message() *ledgerv1.Account {
	return &ledgerv1.Account{
		AccountId: a.id, Owner: a.owner, Currency: a.currency, AllowNegative: a.allowNegative, CreateTime: timestamp(a.created),
	}
}

// movement is a transfer that is asked for.
type movement struct {
	from, to, currency string
	minorUnits         int64
	note               string
	request            string // the request_id; empty for none
}

// transfer is a row.
type transfer struct {
	movement
	id, caller, signer, onBehalfOf string
	created                        time.Time
}

func (t transfer) message() *ledgerv1.TransferRecord {
	return &ledgerv1.TransferRecord{
		TransferId: t.id, FromAccount: t.from, ToAccount: t.to, Amount: money(t.currency, t.minorUnits),
		Note: t.note, Caller: t.caller, Signer: t.signer, User: t.onBehalfOf, CreateTime: timestamp(t.created),
	}
}

// entry is a row with the currency of its account.
type entry struct {
	account, currency   string
	number              int64
	transfer            string
	minorUnits, balance int64
	created             time.Time
}

func (e entry) message() *ledgerv1.Entry {
	return &ledgerv1.Entry{
		EntryId: entryID(e.account, e.number), TransferId: e.transfer, AccountId: e.account,
		Amount: money(e.currency, e.minorUnits), Balance: money(e.currency, e.balance), CreateTime: timestamp(e.created),
	}
}

func money(currency string, minorUnits int64) *ledgerv1.Money {
	return &ledgerv1.Money{Currency: currency, MinorUnits: minorUnits}
}

// timestamp shows a time as it is stored, so that an answer and a later read of the same row agree.
func timestamp(t time.Time) *timestamppb.Timestamp {
	return timestamppb.New(store.Time(store.Micros(t)))
}

// books are the tables.
type books struct{ db *store.DB }

const accountColumns = "account_id, owner, currency, allow_negative, balance, entries, created_us"

func scanAccount(row interface{ Scan(...any) error }) (account, error) {
	var a account
	var created int64
	err := row.Scan(&a.id, &a.owner, &a.currency, &a.allowNegative, &a.balance, &a.entries, &created)
	a.created = store.Time(created)
	return a, err
}

func (b books) open(ctx context.Context, a account) error {
	return b.db.Within(ctx, func(tx *store.Tx) error {
		return tx.Insert("accounts ("+accountColumns+")", [][]any{
			{a.id, a.owner, a.currency, a.allowNegative, a.balance, a.entries, store.Micros(a.created)},
		})
	})
}

func (b books) account(ctx context.Context, id string) (account, error) {
	a, err := scanAccount(b.db.QueryRow(ctx, "SELECT "+accountColumns+" FROM accounts WHERE account_id = $1", id))
	if errors.Is(err, sql.ErrNoRows) {
		return account{}, noAccount(id)
	}
	return a, err
}

const transferColumns = "transfer_id, from_account, to_account, currency, minor_units, note, caller, signer, on_behalf_of, created_us"

func (b books) transfer(ctx context.Context, id string) (transfer, error) {
	return scanTransfer(b.db.QueryRow(ctx, "SELECT "+transferColumns+" FROM transfers WHERE transfer_id = $1", id))
}

// requested returns the transfer that a request made.
func (b books) requested(ctx context.Context, r request) (transfer, error) {
	return scanTransfer(b.db.QueryRow(ctx, "SELECT "+transferColumns+" FROM transfers"+
		" WHERE request_id = $1 AND caller = $2 AND signer = $3 AND on_behalf_of = $4", r.id, r.caller, r.signer, r.user))
}

func scanTransfer(row interface{ Scan(...any) error }) (transfer, error) {
	var t transfer
	var created int64
	err := row.Scan(&t.id, &t.from, &t.to, &t.currency, &t.minorUnits, &t.note, &t.caller, &t.signer, &t.onBehalfOf, &created)
	if errors.Is(err, sql.ErrNoRows) {
		return transfer{}, errNoTransfer
	}
	t.created = store.Time(created)
	return t, err
}

const entryColumns = "account_id, entry_no, transfer_id, minor_units, balance, created_us"

// entries returns at most limit entries of an account with numbers above after, in order.
func (b books) entries(ctx context.Context, a account, after int64, limit int) ([]entry, error) {
	rows, err := b.db.Query(ctx, "SELECT "+entryColumns+" FROM entries WHERE account_id = $1 AND entry_no > $2 ORDER BY entry_no LIMIT $3",
		a.id, after, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	var found []entry
	for rows.Next() {
		e := entry{currency: a.currency}
		var created int64
		if err := rows.Scan(&e.account, &e.number, &e.transfer, &e.minorUnits, &e.balance, &created); err != nil {
			return nil, err
		}
		e.created = store.Time(created)
		found = append(found, e)
	}
	return found, rows.Err()
}

// counts returns how many entries each of the accounts has. At most 1,000 accounts at once.
func (b books) counts(ctx context.Context, accounts []string) (map[string]int64, error) {
	args := make([]any, len(accounts))
	for i, id := range accounts {
		args[i] = id
	}
	rows, err := b.db.Query(ctx, "SELECT account_id, entries FROM accounts WHERE account_id IN ("+store.Placeholders(1, len(args))+")", args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	counts := make(map[string]int64, len(accounts))
	for rows.Next() {
		var id string
		var n int64
		if err := rows.Scan(&id, &n); err != nil {
			return nil, err
		}
		counts[id] = n
	}
	return counts, rows.Err()
}
