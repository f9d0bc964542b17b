package interceptors

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"example.com/rolecall/interceptors/internal/authz"
)

// rereadInterval is how soon a change of the bindings is seen whose file event was lost.
const rereadInterval = 10 * time.Second

// Bindings is where roles.yaml comes from: BindingsFile or BindingsYAML.
type Bindings interface {
	// open returns the first valid bindings; later ones, and errors of reading them, go to apply.
	open(log *slog.Logger, apply func(*authz.Bindings, error)) (*authz.Bindings, io.Closer, error)
}

// BindingsFile reads the bindings from a file and goes on watching it: its folder by file events, so that an atomic
// rename and a Kubernetes ConfigMap swap are seen at once, and the file itself every ten seconds in case an event was
// lost. A file that has become invalid changes nothing and is reported; an invalid one at the start is an error of New.
func BindingsFile(path string) Bindings { return bindingsFile(path) }

type bindingsFile string

func (f bindingsFile) open(log *slog.Logger, apply func(*authz.Bindings, error)) (*authz.Bindings, io.Closer, error) {
	file, first, err := authz.WatchFile(string(f), rereadInterval, apply)
	if err != nil {
		return nil, nil, err
	}
	if err := file.Unwatched(); err != nil {
		log.Warn("the folder of the bindings cannot be watched, changes are seen at the interval only", "interval", rereadInterval, "error", err)
	}
	return first, file, nil
}

// BindingsYAML takes the content of a roles.yaml that never changes.
func BindingsYAML(content []byte) Bindings { return bindingsYAML(content) }

type bindingsYAML []byte

func (y bindingsYAML) open(*slog.Logger, func(*authz.Bindings, error)) (*authz.Bindings, io.Closer, error) {
	b, err := authz.ParseBindings(y)
	if err != nil {
		return nil, nil, fmt.Errorf("bindings: %w", err)
	}
	return b, io.NopCloser(nil), nil
}
