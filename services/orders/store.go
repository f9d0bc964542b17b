package orders

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	ordersv1 "example.com/rolecall/gen/orders/v1"
	"example.com/rolecall/internal/store"
)

var (
	errNotFound = errors.New("no such order")
	// errPaymentTaken is about a payment that another order has, or had.
	errPaymentTaken = errors.New("the payment belongs to another order")
	// errPlaced is about an order that was placed long ago: what was answered is forgotten, the order is not.
	errPlaced = errors.New("the order was placed before")
)

// order is a row.
type order struct {
	id, username, item              string
	currency                        string
	minorUnits                      int64
	payingAccount, receivingAccount string
	payment                         payment
	state                           ordersv1.Order_State
	transfer, failure               string
	created                         time.Time
}

func (o order) message() *ordersv1.Order {
	message := &ordersv1.Order{
		OrderId: o.id, Username: o.username, Item: o.item,
		Price:         &ledgerv1.Money{Currency: o.currency, MinorUnits: o.minorUnits},
		PayingAccount: o.payingAccount, ReceivingAccount: o.receivingAccount,
		State: o.state, TransferId: o.transfer, Failure: o.failure,
		CreateTime: timestamppb.New(store.Time(store.Micros(o.created))),
	}
	if o.state == ordersv1.Order_STATE_PAID {
		message.Payer = o.payment.signer // ledger has verified it: see isPaidBy
	}
	return message
}

func (o order) place() place { return place{micros: store.Micros(o.created), id: o.id} }

// orders is the table.
type orders struct{ db *store.DB }

const columns = "order_id, username, item, currency, minor_units, paying_account, receiving_account, " +
	"payment_request, payment_signer, state, transfer_id, failure, created_us"

func scan(row interface{ Scan(...any) error }) (order, error) {
	var o order
	var created int64
	err := row.Scan(&o.id, &o.username, &o.item, &o.currency, &o.minorUnits, &o.payingAccount, &o.receivingAccount,
		&o.payment.request, &o.payment.signer, &o.state, &o.transfer, &o.failure, &created)
	if errors.Is(err, sql.ErrNoRows) {
		return order{}, errNotFound
	}
	o.created = store.Time(created)
	return o, err
}

// add stores an order in the transaction of ctx, or says why there is one already: errPlaced or errPaymentTaken.
func (t orders) add(ctx context.Context, o order) error {
	row := []any{
		o.id, o.username, o.item, o.currency, o.minorUnits, o.payingAccount, o.receivingAccount,
		o.payment.request, o.payment.signer, int64(o.state), o.transfer, o.failure, store.Micros(o.created),
	}
	return t.db.Within(ctx, func(tx *store.Tx) error {
		added, err := tx.Exec("INSERT INTO orders ("+columns+") VALUES ("+store.Placeholders(1, len(row))+") ON CONFLICT DO NOTHING", row...)
		if err != nil || added == 1 {
			return err
		}
		if _, err := scan(tx.QueryRow("SELECT "+columns+" FROM orders WHERE order_id = $1", o.id)); !errors.Is(err, errNotFound) {
			return cmp.Or(err, errPlaced)
		}
		return errPaymentTaken
	})
}

// settle stores the outcome of a PENDING order in the transaction of ctx. It happens once, and one transfer is the outcome of
// one order.
func (t orders) settle(ctx context.Context, o order) error {
	return t.db.Within(ctx, func(tx *store.Tx) error {
		changed, err := tx.Exec("UPDATE orders SET state = $1, transfer_id = $2, failure = $3 WHERE order_id = $4 AND state = $5",
			int64(o.state), o.transfer, o.failure, o.id, int64(ordersv1.Order_STATE_PENDING))
		if err == nil && changed != 1 {
			return fmt.Errorf("order %s is not PENDING any more", o.id)
		}
		return err
	})
}

func (t orders) get(ctx context.Context, id string) (order, error) {
	return scan(t.db.QueryRow(ctx, "SELECT "+columns+" FROM orders WHERE order_id = $1", id))
}

// list returns at most limit orders that come after the given place, newest first; of one user, or of all if empty.
func (t orders) list(ctx context.Context, username string, after place, limit int) ([]order, error) {
	query, args := "SELECT "+columns+" FROM orders WHERE (created_us, order_id) < ($1, $2)", []any{after.micros, after.id}
	if username != "" {
		query, args = query+" AND username = $3", append(args, username)
	}
	query += fmt.Sprintf(" ORDER BY created_us DESC, order_id DESC LIMIT %d", limit)
	rows, err := t.db.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	var found []order
	for rows.Next() {
		o, err := scan(rows)
		if err != nil {
			return nil, err
		}
		found = append(found, o)
	}
	return found, rows.Err()
}
