package interceptors

import (
	"maps"
	"sync"
	"sync/atomic"

	"example.com/rolecall/interceptors/internal/authz"
	"example.com/rolecall/interceptors/internal/feature"
)

// described is what the annotations of methods say that a client may call, from the descriptors that are linked into the
// process. A method that is asked for often costs one look into a map. Safe for concurrent use.
type described struct {
	start sync.Once
	known atomic.Pointer[map[string]feature.Method] // never written to
	mu    sync.Mutex
}

// describe returns what is known of a method; the zero Method if there is no descriptor of it.
func (d *described) describe(full string) feature.Method {
	if m, ok := d.all()[full]; ok {
		return m
	}
	m, ok := authz.Describe(full)
	if !ok {
		return feature.Method{} // and may be linked later
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	more := maps.Clone(d.all())
	more[full] = featureMethod(m)
	d.known.Store(&more)
	return more[full]
}

// all returns the methods of all services that were linked when it was first called, and those asked for since. The caller
// must not change them.
func (d *described) all() map[string]feature.Method {
	d.start.Do(func() {
		known := map[string]feature.Method{}
		for _, m := range authz.DescribeLinked() {
			known[m.Full] = featureMethod(m)
		}
		d.known.Store(&known)
	})
	return *d.known.Load()
}

func featureMethod(m authz.Description) feature.Method {
	return feature.Method{
		Full: m.Full, Proof: m.Conditions.Proof, ExactlyOnce: m.Conditions.ExactlyOnce, Idempotent: m.Idempotent,
		ClientStream: m.ClientStream, ServerStream: m.ServerStream,
	}
}
