package tokens

import (
	"context"
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
	if err := tables.db.Write(t.Context(), func(tx *store.Tx) error { return owe(tx, "dave") }); err != nil {
		t.Fatal(err)
	}
	d, err := tables.debt(t.Context(), "dave")
	if err != nil {
		t.Fatal(err)
	}
	s := &Service{tables: tables, users: forgetful{}, now: time.Now}
	if err := s.deliver(t.Context(), d); err != nil {
		t.Errorf("got %v, want it settled", err)
	}
	if left, err := tables.debts(t.Context(), 10); err != nil || len(left) != 0 {
		t.Errorf("still owed: %v, %v", left, err)
	}
}

func TestAGenerationIsRaisedOnceWhereTwoReplicasFindThatItIsOwed(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		tables := openTables(t, url)
		if err := tables.db.Write(t.Context(), func(tx *store.Tx) error { return owe(tx, "dave") }); err != nil {
			t.Fatal(err)
		}
		found, err := tables.debt(t.Context(), "dave") // by both, before either has asked users
		if err != nil {
			t.Fatal(err)
		}
		first, second := found, found
		first.generation, second.generation = 3, 4 // the second asked after the first had raised it
		if fixed, err := tables.fix(t.Context(), first); err != nil || !fixed {
			t.Fatalf("the first: %t, %v", fixed, err)
		}
		if fixed, err := tables.fix(t.Context(), second); err != nil || fixed {
			t.Errorf("the second: %t, %v, want it left to the first", fixed, err)
		}
		if now, err := tables.debt(t.Context(), "dave"); err != nil || now.generation != 3 {
			t.Errorf("the debt is %+v, %v", now, err)
		}
	})
}
