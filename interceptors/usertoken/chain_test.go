package usertoken_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/rolecalltest"
)

const (
	topologies = 8
	chains     = 40 // of each topology
	longest    = 5  // hops
)

// TestAlongAnyChainNobodyGains makes random roles that include each other, random bindings, users and tokens, and calls
// along random chains of real servers, at each of which the caller may give roles up. At each hop the user holds the closure of
// what the user has, as far as the closure of the token's subset reaches, and the workload the closure of its own roles, as
// far as the closure of the subset that it chose reaches; never more.
func TestAlongAnyChainNobodyGains(t *testing.T) {
	t.Parallel()
	seed := uint64(4)
	if text := os.Getenv("ROLECALL_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		must(t, err)
	}
	t.Logf("ROLECALL_SEED=%d", seed)
	ca := rolecalltest.NewCA(t, "mesh.local")
	users := rolecalltest.NewUsers(ca)
	for n := range topologies {
		t.Run(fmt.Sprintf("topology %d", n), func(t *testing.T) {
			t.Parallel()
			top := newTopology(t, ca, users, seed, n)
			for range chains {
				top.follow(t, top.randomChain())
			}
		})
	}
}

// topology is a hierarchy of roles, workloads that hold some of them, and a server of each.
type topology struct {
	users    *rolecalltest.Users
	rand     *rand.Rand
	name     string // the owner of the roles
	includes map[string][]string
	held     [longest + 1][]string // by workload; the last one only calls
	clients  [longest + 1][longest]*grpc.ClientConn

	mu   sync.Mutex
	plan *chain
	seen []observed
}

// chain is what is called in turn.
type chain struct {
	user          string
	has, subset   []string
	path          []int      // workloads; the first one only calls
	narrow        [][]string // what the caller of each hop keeps; nil: all
	nobody        int        // from this hop on the calls are made on behalf of nobody; 0: never
	fromGoroutine bool
}

// observed is what the handler of one hop sees.
type observed struct {
	Caller, User             string
	WorkloadRoles, UserRoles []string
}

func newTopology(t *testing.T, ca *rolecalltest.CA, users *rolecalltest.Users, seed uint64, n int) *topology {
	top := &topology{users: users, rand: rand.New(rand.NewPCG(seed, uint64(n))), name: fmt.Sprintf("chain%d", n), includes: map[string][]string{}}
	var proto strings.Builder
	fmt.Fprintf(&proto, "syntax = \"proto3\";\npackage %s.v1;\nimport \"google/protobuf/empty.proto\";\nimport \"rolecall/v1/access.proto\";\nservice Hop {\n", top.name)
	count := 3 + top.rand.IntN(10)
	for i := range count {
		name := fmt.Sprintf("%s.r%d", top.name, i)
		top.includes[name] = nil
		for j := i + 1; j < count; j++ {
			if top.rand.IntN(4) == 0 {
				top.includes[name] = append(top.includes[name], fmt.Sprintf("%s.r%d", top.name, j))
			}
		}
		fmt.Fprintf(&proto, "  option (rolecall.v1.role) = {name: %q", name)
		for _, included := range top.includes[name] {
			fmt.Fprintf(&proto, " includes: %q", included)
		}
		proto.WriteString("};\n")
	}
	proto.WriteString("  rpc Next(google.protobuf.Empty) returns (google.protobuf.Empty) { option (rolecall.v1.any_workload) = true; }\n}\n")
	registerProto(t, top.name+".proto", proto.String())

	bindings := "trustDomain: mesh.local\nbindings:\n"
	for w := range top.held {
		top.held[w] = top.some()
		for _, role := range top.held[w] {
			bindings += fmt.Sprintf("  - {role: %s, members: [%s]}\n", role, ca.ID(workload(w)))
		}
	}
	var addrs [longest]string
	var guards [longest + 1]*interceptors.Guard
	for w := range guards {
		guard, err := interceptors.New(ca.Source(workload(w)), interceptors.BindingsYAML([]byte(bindings)),
			interceptors.Audit(slog.DiscardHandler), quiet(), interceptors.With(users.Feature()))
		must(t, err)
		t.Cleanup(func() { _ = guard.Close() })
		guards[w] = guard
		if w == longest {
			continue
		}
		server := guard.NewServer()
		server.RegisterService(&grpc.ServiceDesc{
			ServiceName: top.name + ".v1.Hop", HandlerType: (*any)(nil), Metadata: top.name + ".proto",
			Methods: []grpc.MethodDesc{unaryMethod("Next", top.hop)},
		}, top)
		addrs[w] = serve(t, server, listen(t))
	}
	for from := range guards {
		for to, addr := range addrs {
			conn, err := guards[from].NewClient(addr, ca.ID(workload(to)))
			must(t, err)
			t.Cleanup(func() { _ = conn.Close() })
			top.clients[from][to] = conn
		}
	}
	for _, conn := range top.clients[longest] {
		eventually(t, "server that knows users", func() bool {
			return invoke(interceptors.AsUser(timeout(t), users.Token("somebody")), conn, "/"+top.name+".v1.Hop/Next") == nil
		})
	}
	return top
}

func workload(w int) string { return fmt.Sprintf("/service/w%d", w) }

// some returns a random choice of roles.
func (top *topology) some() []string {
	chosen := []string{}
	for _, role := range slices.Sorted(maps.Keys(top.includes)) {
		if top.rand.IntN(3) == 0 {
			chosen = append(chosen, role)
		}
	}
	return chosen
}

func (top *topology) randomChain() *chain {
	c := &chain{
		user: fmt.Sprintf("user%d", top.rand.IntN(5)), has: top.some(),
		path: []int{longest}, narrow: [][]string{nil}, fromGoroutine: top.rand.IntN(2) == 0,
	}
	if top.rand.IntN(4) > 0 {
		c.subset = append(top.some(), "no.such")
	}
	for range 1 + top.rand.IntN(longest) {
		c.path = append(c.path, top.rand.IntN(longest))
		var keep []string
		if top.rand.IntN(2) == 0 {
			keep = append(top.some(), "no.such")
		}
		c.narrow = append(c.narrow, keep)
	}
	if top.rand.IntN(4) == 0 && len(c.path) > 2 {
		c.nobody = 2 + top.rand.IntN(len(c.path)-2)
	}
	return c
}

// follow calls along a chain and compares what each hop saw.
func (top *topology) follow(t *testing.T, c *chain) {
	t.Helper()
	top.mu.Lock()
	top.plan, top.seen = c, nil
	top.mu.Unlock()
	token := top.users.Token(c.user, c.has...)
	user := top.closure(c.has)
	if c.subset != nil {
		token = top.users.NarrowToken(c.user, c.has, c.subset)
		asked := top.closure(c.subset)
		maps.DeleteFunc(user, func(role string, _ bool) bool { return !asked[role] })
	}
	must(t, top.call(interceptors.AsUser(timeout(t), token), 1))

	var want []observed
	for hop := 1; hop < len(c.path); hop++ {
		caller := c.path[hop-1]
		o := observed{Caller: "spiffe://mesh.local" + workload(caller)}
		roles := top.closure(top.held[caller])
		if keep := c.narrow[hop]; keep != nil {
			kept := top.closure(keep)
			maps.DeleteFunc(roles, func(role string, _ bool) bool { return !kept[role] })
		}
		o.WorkloadRoles = slices.Sorted(maps.Keys(roles))
		if c.nobody == 0 || hop < c.nobody {
			o.User, o.UserRoles = c.user, slices.Sorted(maps.Keys(user))
		}
		want = append(want, o)
	}
	top.mu.Lock()
	defer top.mu.Unlock()
	same := cmp.Comparer(func(a, b []string) bool { return slices.Equal(a, b) }) // nil and empty
	if diff := cmp.Diff(want, top.seen, same); diff != "" {
		t.Fatalf("%+v\nincludes %v\nheld %v\nwant (-), got (+):\n%s", c, top.includes, top.held, diff)
	}
}

// closure is the meaning of roles, worked out in another way than by the guard: again and again until nothing is new.
func (top *topology) closure(roles []string) map[string]bool {
	found := map[string]bool{}
	for _, role := range roles {
		if _, known := top.includes[role]; known {
			found[role] = true
		}
	}
	for grown := true; grown; {
		grown = false
		for role := range maps.Clone(found) {
			for _, included := range top.includes[role] {
				grown = grown || !found[included]
				found[included] = true
			}
		}
	}
	return found
}

// call makes the call of one hop.
func (top *topology) call(ctx context.Context, hop int) error {
	c := top.plan
	if keep := c.narrow[hop]; keep != nil {
		ctx = interceptors.Narrow(ctx, keep...)
	}
	if c.nobody == hop {
		ctx = interceptors.AsUser(ctx, "")
	}
	ctx = metadata.AppendToOutgoingContext(ctx, "x-hop", strconv.Itoa(hop))
	return invoke(ctx, top.clients[c.path[hop-1]][c.path[hop]], "/"+top.name+".v1.Hop/Next")
}

// hop is the handler of every server.
func (top *topology) hop(ctx context.Context) error {
	caller := interceptors.CallerFrom(ctx)
	o := observed{Caller: caller.ID().String(), WorkloadRoles: caller.Roles()}
	if user, ok := caller.User(); ok {
		o.User, o.UserRoles = user.Subject(), user.Roles()
	}
	top.mu.Lock()
	top.seen = append(top.seen, o)
	c := top.plan
	top.mu.Unlock()
	at := metadata.ValueFromIncomingContext(ctx, "x-hop")
	if len(at) == 0 {
		return nil // only to see whether the server is there
	}
	hop, err := strconv.Atoi(at[0])
	if err != nil || hop+1 == len(c.path) {
		return err
	}
	if !c.fromGoroutine {
		return top.call(ctx, hop+1)
	}
	done := make(chan error)
	go func() { done <- top.call(ctx, hop+1) }()
	return <-done
}
