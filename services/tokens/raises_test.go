package tokens

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/internal/store"
	"example.com/rolecall/internal/store/storetest"
)

// forgetful is a users service that was put back from a copy without the user, between two calls.
type forgetful struct{ usersv1.UsersServiceClient }

// GetTokenSubject implements the client.
func (forgetful) GetTokenSubject(context.Context, *usersv1.GetTokenSubjectRequest, ...grpc.CallOption) (*usersv1.GetTokenSubjectResponse, error) {
	return &usersv1.GetTokenSubjectResponse{Subject: &usersv1.TokenSubject{Username: "dave", Generation: 3}}, nil
}

// RaiseTokenGeneration implements the client.
func (forgetful) RaiseTokenGeneration(context.Context, *usersv1.RaiseTokenGenerationRequest, ...grpc.CallOption) (*usersv1.RaiseTokenGenerationResponse, error) {
	return nil, status.Error(codes.NotFound, "there is no such user")
}

func TestNothingIsOwedForAUserWhoIsGone(t *testing.T) {
	t.Parallel()
	tables := openTables(t, storetest.SQLite(t))
	oweDebt(t, tables, "dave")
	d, err := tables.debt(t.Context(), "dave")
	if err != nil {
		t.Fatal(err)
	}
	s := &Service{tables: tables, users: forgetful{}, now: time.Now}
	if err := s.deliver(t.Context(), d); err != nil {
		t.Errorf("got %v, want it settled", err)
	}
	if left, err := tables.debts(t.Context(), "", 10); err != nil || len(left) != 0 {
		t.Errorf("still owed: %v, %v", left, err)
	}
}

func TestAGenerationIsRaisedOnceWhereTwoReplicasFindThatItIsOwed(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		tables := openTables(t, url)
		oweDebt(t, tables, "dave")
		found, err := tables.debt(t.Context(), "dave") // by both, before either has asked users
		if err != nil {
			t.Fatal(err)
		}
		first, second := found, found
		first.generation, second.generation = 3, 4 // the second asked after the first had raised it
		for _, d := range []debt{first, second} {
			if owed, err := tables.fix(t.Context(), d); err != nil || owed != first {
				t.Errorf("generation %d: %+v is owed, %v, want %+v", d.generation, owed, err, first)
			}
		}
	})
}

// overtaken is a users service at which another replica is always the first.
type overtaken struct {
	usersv1.UsersServiceClient
	meanwhile func(asked int) // what the other one does while this one asks for the generation
	asked     int
	raised    []int64
	down      bool
}

// GetTokenSubject implements the client.
func (o *overtaken) GetTokenSubject(context.Context, *usersv1.GetTokenSubjectRequest, ...grpc.CallOption) (*usersv1.GetTokenSubjectResponse, error) {
	o.asked++
	o.meanwhile(o.asked)
	return &usersv1.GetTokenSubjectResponse{Subject: &usersv1.TokenSubject{Username: "dave", Generation: int64(10 * o.asked)}}, nil
}

// RaiseTokenGeneration implements the client.
func (o *overtaken) RaiseTokenGeneration(_ context.Context, req *usersv1.RaiseTokenGenerationRequest, _ ...grpc.CallOption) (*usersv1.RaiseTokenGenerationResponse, error) {
	if o.down {
		return nil, status.Error(codes.Unavailable, "users is down")
	}
	o.raised = append(o.raised, req.GetGeneration())
	return &usersv1.RaiseTokenGenerationResponse{Generation: req.GetGeneration() + 1}, nil
}

func TestARaiseIsNotToldOfBeforeItIsDone(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		meanwhile func(*testing.T, tables, int) // by another replica, while this one asks
		down      bool
		err       codes.Code
		raised    []int64
		owed      int
	}{
		"another replica has stored the generation, and has not raised it": {
			meanwhile: func(t *testing.T, of tables, _ int) { fixDebt(t, of, 3) },
			raised:    []int64{3},
		},
		"another replica has stored the generation, and users is down": {
			meanwhile: func(t *testing.T, of tables, _ int) { fixDebt(t, of, 3) },
			down:      true, err: codes.Unavailable, owed: 1,
		},
		"another replica has delivered it": {
			meanwhile: func(t *testing.T, of tables, _ int) { settleDebt(t, of) },
		},
		"another replica has delivered it, and one more raise is asked for meanwhile": {
			meanwhile: func(t *testing.T, of tables, asked int) {
				if asked == 1 {
					settleDebt(t, of)
					oweDebt(t, of, "dave")
				}
			},
			raised: []int64{20},
		},
		"one more raise is asked for meanwhile": {
			meanwhile: func(t *testing.T, of tables, asked int) {
				if asked == 1 {
					oweDebt(t, of, "dave")
				}
			},
			raised: []int64{20},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, func(t *testing.T, url string) {
				of := openTables(t, url)
				oweDebt(t, of, "dave")
				users := &overtaken{down: test.down, meanwhile: func(asked int) { test.meanwhile(t, of, asked) }}
				s := &Service{tables: of, users: users, now: time.Now}
				d, err := of.debt(t.Context(), "dave")
				if err != nil {
					t.Fatal(err)
				}
				if err := s.deliver(t.Context(), d); status.Code(err) != test.err {
					t.Errorf("got %v, want %v", err, test.err)
				}
				left, err := of.debts(t.Context(), "", 10)
				if err != nil || len(left) != test.owed || !slices.Equal(users.raised, test.raised) {
					t.Errorf("raised %v, owed %v, %v, want %v and %d", users.raised, left, err, test.raised, test.owed)
				}
			})
		})
	}
}

// crossed is a users service that takes offence at some users for good.
type crossed struct{ overtaken }

// GetTokenSubject implements the client.
func (*crossed) GetTokenSubject(_ context.Context, req *usersv1.GetTokenSubjectRequest, _ ...grpc.CallOption) (*usersv1.GetTokenSubjectResponse, error) {
	if req.GetUsername() != "zoe" {
		return nil, status.Error(codes.InvalidArgument, "no")
	}
	return &usersv1.GetTokenSubjectResponse{Subject: &usersv1.TokenSubject{Username: "zoe", Generation: 7}}, nil
}

func TestRaisesThatFailForGoodHoldUpNoOthers(t *testing.T) {
	t.Parallel()
	of := openTables(t, storetest.SQLite(t))
	for n := range debtBatch + 1 {
		oweDebt(t, of, fmt.Sprint("dave", n))
	}
	oweDebt(t, of, "zoe")
	users := &crossed{}
	s := &Service{tables: of, users: users, now: time.Now}
	if err := s.deliverOwed(t.Context()); status.Code(err) != codes.InvalidArgument || !slices.Equal(users.raised, []int64{7}) {
		t.Errorf("raised %v, %v, want zoe's generation 7, and the error of the others", users.raised, err)
	}
}

func oweDebt(t *testing.T, of tables, username string) {
	t.Helper()
	if err := of.db.Write(t.Context(), func(tx *store.Tx) error { return owe(tx, username) }); err != nil {
		t.Error(err)
	}
}

// fixDebt stores the generation of dave's debt.
func fixDebt(t *testing.T, of tables, generation int64) {
	t.Helper()
	d, err := of.debt(t.Context(), "dave")
	if err == nil {
		d.generation = generation
		_, err = of.fix(t.Context(), d)
	}
	if err != nil {
		t.Error(err)
	}
}

// settleDebt settles dave's debt.
func settleDebt(t *testing.T, of tables) {
	t.Helper()
	d, err := of.debt(t.Context(), "dave")
	if err == nil {
		err = of.settle(t.Context(), d)
	}
	if err != nil {
		t.Error(err)
	}
}
