package mesh

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// maxFile bounds mesh.json when it is read: it is a few kilobytes.
const maxFile = 1 << 20

// File is mesh.json: what other programs need to know to reach a mesh that runs. It holds no keys, but says where they
// lie; mode 0600.
type File struct {
	TrustDomain string     `json:"trust_domain"`
	PID         int        `json:"pid"`
	Started     time.Time  `json:"started"`
	WorkloadAPI string     `json:"workload_api"`
	Control     string     `json:"control"`
	Bundle      string     `json:"bundle"`
	Roles       string     `json:"roles"`
	Agent       Agent      `json:"agent"`
	Services    []Service  `json:"services"`
	Operators   []Operator `json:"operators"`
	Users       []User     `json:"users"`
	Programs    []Program  `json:"programs"`
}

// Service is one gRPC service of the mesh. Address and Admin are host:port.
type Service struct {
	Name     string `json:"name"`
	ID       string `json:"spiffe_id"`
	Address  string `json:"address"`
	Admin    string `json:"admin"`
	PID      int    `json:"pid"`
	Restarts int    `json:"restarts"`
}

// Agent is the process behind the Workload API.
type Agent struct {
	ID       string `json:"spiffe_id"`
	PID      int    `json:"pid"`
	Restarts int    `json:"restarts"`
}

// Operator is a person at a terminal, by the files that hold her certificate.
type Operator struct {
	Name  string   `json:"name"`
	ID    string   `json:"spiffe_id"`
	Cert  string   `json:"cert"`
	Key   string   `json:"key"`
	Roles []string `json:"roles"`
}

// User is a sample user of the services.
type User struct {
	Username string   `json:"username"`
	Password string   `json:"password"`
	Roles    []string `json:"roles"`
}

// Program is what `rolecall run` runs inside the mesh. PID is that of `rolecall run`, the ancestor of the program.
type Program struct {
	ID      string    `json:"spiffe_id"`
	PID     int       `json:"pid"`
	Command []string  `json:"command"`
	Started time.Time `json:"started"`
}

// Service returns the service of that name.
func (f *File) Service(name string) (Service, bool) {
	for _, s := range f.Services {
		if s.Name == name {
			return s, true
		}
	}
	return Service{}, false
}

// Operator returns the operator of that name.
func (f *File) Operator(name string) (Operator, bool) {
	for _, o := range f.Operators {
		if o.Name == name {
			return o, true
		}
	}
	return Operator{}, false
}

// ErrNotRunning says that there is no mesh.json: no mesh is up in this folder, or it is not ready yet.
var ErrNotRunning = errors.New("no mesh is running")

// Read reads mesh.json. The error is ErrNotRunning if there is none.
func Read(d Dir) (*File, error) {
	info, err := os.Stat(d.File())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s: start it with: rolecall up --dir %s", ErrNotRunning, d.path, d.path)
	}
	if err != nil {
		return nil, fmt.Errorf("read mesh.json: %w", err)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s has %d bytes, more than mesh.json ever has: stop and start the mesh again", d.File(), info.Size())
	}
	data, err := os.ReadFile(d.File())
	if err != nil {
		return nil, fmt.Errorf("read mesh.json: %w", err)
	}
	var f File
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("%s is not a mesh.json (%w): stop and start the mesh again", d.File(), err)
	}
	return &f, nil
}

// Write writes mesh.json in one step, mode 0600.
func Write(d Dir, f *File) error {
	return locked(d, func() error { return write(d, f) })
}

// Update changes mesh.json in one step, taking turns with others who do: `up` after a restart, `run` at its start and end.
// Programs that no longer run are dropped. The error is ErrNotRunning if there is no mesh.json.
func Update(d Dir, change func(*File)) error {
	return locked(d, func() error {
		f, err := Read(d)
		if err != nil {
			return err
		}
		f.dropDead()
		change(f)
		return write(d, f)
	})
}

// Remove removes mesh.json; none is no error.
func Remove(d Dir) error {
	return locked(d, func() error {
		if err := os.Remove(d.File()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove mesh.json: %w", err)
		}
		return nil
	})
}

func (f *File) dropDead() {
	var alive []Program
	for _, p := range f.Programs {
		if Alive(p.PID) {
			alive = append(alive, p)
		}
	}
	f.Programs = alive
}

func write(d Dir, f *File) error {
	// Readers in every language see a list, never null.
	f.Services, f.Operators = orEmpty(f.Services), orEmpty(f.Operators)
	f.Users, f.Programs = orEmpty(f.Users), orEmpty(f.Programs)
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("encode mesh.json: %w", err)
	}
	return WriteFile(d.File(), append(data, '\n'), 0o600)
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
