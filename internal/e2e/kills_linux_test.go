package e2e_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/stdlib"

	"example.com/rolecall/internal/store/storetest"
)

// kills is how many processes are killed on each kind of database: ROLECALL_SOAK asks for many.
func kills() int {
	if os.Getenv("ROLECALL_SOAK") != "" {
		return 200
	}
	return 10
}

// TestSoakKillsLoseNothingAndRepeatNothing kills ledger, orders and PostgreSQL at random moments while eight clients pay
// and order, each of which repeats a request until it has an answer. Then the books are compared with what was answered.
func TestSoakKillsLoseNothingAndRepeatNothing(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"sqlite", "postgres"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			var database string
			if kind == "postgres" {
				database = ownPostgres(t)
			}
			shop := openShop(t, database)
			load := shop.startLoad(t)
			killed := map[string]int{}
			for n := range kills() {
				what := shop.victims()[rand.N(len(shop.victims()))]
				// While calls are under way, as they are nearly always, but at no moment in particular.
				time.Sleep(time.Duration(300+rand.N(700)) * time.Millisecond)
				awaitQuietly(t, "a call under way", func() bool { return load.flying() > 0 })
				shop.kill(t, what)
				killed[what]++
				if before := load.answered(); n%2 == 1 {
					await(t, "the clients go on", func() error {
						if load.answered() < before+8 {
							return fmt.Errorf("%d answers since the kill", load.answered()-before)
						}
						return nil
					})
				}
			}
			load.stop()
			t.Logf("killed: %v, all %d with calls in flight", killed, kills())
			load.check(t)
		})
	}
}

// shop is a ledger and an orders that the test runs, and kills, itself: of a mesh whose other services stay up.
type shop struct {
	*runningMesh
	database string
	ledger   *mortal
	orders   *mortal
	server   *sql.DB // PostgreSQL; nil for SQLite
}

func openShop(t *testing.T, database string) *shop {
	t.Helper()
	s := &shop{runningMesh: startMesh(t), database: database}
	if database != "" {
		s.server = connect(t, database)
	}
	peer := func(name, address string) string {
		service := s.service(t, name)
		if address == "" {
			address = service.Address
		}
		return fmt.Sprintf("%s=dns:///%s,%s", name, address, service.ID)
	}
	s.ledger = s.startMortal(t, "ledger", peer("keys", ""), peer("tokens", ""))
	s.orders = s.startMortal(t, "orders", peer("keys", ""), peer("tokens", ""), peer("users", ""), peer("ledger", s.ledger.address))
	return s
}

// victims are what there is to kill.
func (s *shop) victims() []string {
	if s.server != nil {
		return []string{"ledger", "orders", "database"}
	}
	return []string{"ledger", "orders"}
}

func (s *shop) kill(t *testing.T, what string) {
	t.Helper()
	switch what {
	case "ledger":
		s.ledger.kill(t)
	case "orders":
		s.orders.kill(t)
	default:
		killBackend(t, s.server)
	}
}

// mortal is a service that is started again each time it ends, at the same address.
type mortal struct {
	address string
	start   func() *exec.Cmd
	log     *os.File

	stopped chan struct{}
	runner  chan int // gives the process that runs it, while there is one
	done    chan struct{}
}

func (s *shop) startMortal(t *testing.T, name string, peers ...string) *mortal {
	t.Helper()
	dir := t.TempDir()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	m := &mortal{address: freeAddress(t), log: log, stopped: make(chan struct{}), runner: make(chan int), done: make(chan struct{})}
	args := []string{
		"run", "--dir", s.dir, "--id", s.service(t, name).ID, "--", s.program,
		"serve", name, "--listen", m.address, "--roles", s.file.Roles, "--data", dir,
	}
	for _, p := range peers {
		args = append(args, "--peer", p)
	}
	if s.database != "" {
		args = append(args, "--database", s.database)
	}
	m.start = func() *exec.Cmd {
		cmd := exec.Command(s.program, args...)
		cmd.Stdout, cmd.Stderr = log, log
		return cmd
	}
	go m.run()
	t.Cleanup(func() {
		close(m.stopped)
		<-m.done
		if t.Failed() {
			t.Logf("%s said at the end:\n%s", name, tail(content(log)))
		}
		_ = log.Close()
	})
	await(t, name+" of the shop listens", func() error {
		conn, err := net.Dial("tcp", m.address)
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
	return m
}

// run keeps the service running until it is stopped.
func (m *mortal) run() {
	defer close(m.done)
	for {
		cmd := m.start()
		if err := startCommand(cmd); err != nil {
			fmt.Fprintln(m.log, "start:", err)
			return
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = cmd.Wait()
		}()
		for alive := true; alive; {
			select {
			case m.runner <- cmd.Process.Pid:
			case <-ended:
				alive = false
			case <-m.stopped:
				_ = cmd.Process.Signal(syscall.SIGTERM)
				select {
				case <-ended:
				case <-time.After(upTimeout):
					_ = cmd.Process.Kill()
					<-ended
				}
				return
			}
		}
	}
}

// kill kills the service itself, not what runs it. It waits for one that is just being started.
func (m *mortal) kill(t *testing.T) {
	t.Helper()
	awaitQuietly(t, "a process to kill", func() bool {
		select {
		case runner := <-m.runner:
			pid := childOf(runner)
			return pid != 0 && syscall.Kill(pid, syscall.SIGKILL) == nil // it may have ended since
		case <-time.After(patience):
			return false
		}
	})
}

// childOf returns the process that another one has started, 0 for none.
func childOf(parent int) int {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", parent, parent))
	if err == nil && len(strings.Fields(string(children))) > 0 {
		pid, _ := strconv.Atoi(strings.Fields(string(children))[0])
		return pid
	}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		// proc_pid_stat(5): pid (comm) state ppid
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			return pid
		}
	}
	return 0
}

func awaitQuietly(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); !is(); <-tick.C {
		if time.Since(began) > patience {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// ownPostgres starts a PostgreSQL server for this test alone: when one of its processes is killed, all of them begin anew.
func ownPostgres(t *testing.T) string {
	t.Helper()
	if os.Getenv(storetest.Env) == "" {
		storetest.Postgres(t) // says why there is none
	}
	script, err := filepath.Abs(filepath.Join("..", "..", "scripts", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var complaints strings.Builder
	cmd := exec.Command(script, "start", dir)
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("scripts/postgres start: %v\n%s", err, complaints.String())
	}
	t.Cleanup(func() {
		if out, err := exec.Command(script, "stop", dir).CombinedOutput(); err != nil {
			t.Errorf("scripts/postgres stop: %v\n%s", err, out)
		}
	})
	return strings.TrimSpace(string(out))
}

func connect(t *testing.T, database string) *sql.DB {
	t.Helper()
	connector, err := stdlib.GetDefaultDriver().(*stdlib.Driver).OpenConnector(database)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// killBackend kills the process of PostgreSQL that serves one connection of ledger or orders: the server then takes all of
// its memory for damaged, ends all other connections and recovers from its log, as after a crash.
func killBackend(t *testing.T, server *sql.DB) {
	t.Helper()
	awaitQuietly(t, "a process of PostgreSQL to kill", func() bool {
		var pid int
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		err := server.QueryRowContext(ctx, `SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'rolecall %'
			ORDER BY state = 'active' DESC, random() LIMIT 1`).Scan(&pid)
		return err == nil && syscall.Kill(pid, syscall.SIGKILL) == nil // its client may have gone since, and it with it
	})
}

// tail returns the end of a long text.
func tail(text string) string { return text[max(0, len(text)-8000):] }
