package orders

import (
	"cmp"
	"errors"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	ordersv1 "example.com/rolecall/gen/orders/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/field"
)

// username has the form that users gives usernames; whether there is such a user is for users to say.
var username = regexp.MustCompile(`^[a-z][a-z0-9._-]{0,63}$`)

func checkUsername(value string) error {
	if !username.MatchString(value) {
		return interceptors.InvalidField("username", "must be a username: 1 to 64 of a-z, 0-9, dot, dash and underscore, starting with a letter")
	}
	return nil
}

// newOrder checks a PlaceOrderRequest of the user. relay is the SPIFFE ID of orders.
func newOrder(req *ordersv1.PlaceOrderRequest, username string, relay spiffeid.ID) (order, error) {
	o := order{
		username: username, item: req.GetItem(),
		currency: req.GetPrice().GetCurrency(), minorUnits: req.GetPrice().GetMinorUnits(),
		payingAccount: req.GetPayingAccount(), receivingAccount: req.GetReceivingAccount(),
	}
	var foreign, same error
	if asked := req.GetUsername(); asked != "" && asked != username {
		foreign = interceptors.InvalidField("username", "must be the user on whose behalf the call is made, or empty")
	}
	if o.payingAccount == o.receivingAccount {
		same = interceptors.InvalidField("receiving_account", "must be another account than paying_account")
	}
	err := cmp.Or(
		foreign,
		checkUsername(username),
		field.Text("item", o.item, 1, 200),
		field.Currency("price.currency", o.currency),
		field.Amount("price.minor_units", o.minorUnits),
		field.ID("paying_account", o.payingAccount),
		field.ID("receiving_account", o.receivingAccount),
		same,
	)
	if err != nil {
		return order{}, err
	}
	if signed := req.GetPayment(); signed != nil {
		o.payment, err = newPayment(signed, o, relay)
	}
	return o, err
}

// place is where an order stands in the list: by time, and by ID among those of one microsecond.
type place struct {
	micros int64
	id     string
}

// newest comes before every order, newest first.
var newest = place{micros: math.MaxInt64, id: ""}

func (p place) String() string { return strconv.FormatInt(p.micros, 10) + " " + p.id }

var errPlace = errors.New("not a place in the list of orders")

func parsePlace(s string) (place, error) {
	micros, id, _ := strings.Cut(s, " ")
	n, err := strconv.ParseInt(micros, 10, 64)
	p := place{micros: n, id: id}
	if err != nil || p.String() != s || field.ID("", id) != nil {
		return place{}, errPlace
	}
	return p, nil
}
