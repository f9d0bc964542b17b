package proof_test

import (
	"context"
	"log/slog"

	"google.golang.org/grpc"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/proof"
	"example.com/rolecall/rolecalltest"
)

// workload is a process of the mesh that calls the bank.
type workload struct {
	*mesh
	path    string
	source  *rolecalltest.Source
	guard   *interceptors.Guard
	feature *proof.Feature
	conn    *grpc.ClientConn
}

// workload starts one.
func (m *mesh) workload(path string, configure ...func(*proof.Config)) *workload {
	m.t.Helper()
	w := &workload{mesh: m, path: path, source: m.ca.Source(path)}
	var cfg proof.Config
	if !m.config.noKeys {
		cfg.Target, cfg.Server = m.keysAddr, m.ca.ID(keysPath)
	}
	for _, c := range configure {
		c(&cfg)
	}
	w.feature = proof.NewFast(cfg)
	w.guard = m.newGuard(w.source, nil, interceptors.Audit(slog.DiscardHandler), quiet(), interceptors.With(w.feature))
	w.conn = w.client()
	return w
}

// announced waits until the key server knows the workload's key.
func (w *workload) announced() *workload {
	w.t.Helper()
	must(w.t, w.feature.Announced(timeout(w.t)))
	return w
}

// client returns another client of the bank.
func (w *workload) client(opts ...grpc.DialOption) *grpc.ClientConn {
	w.t.Helper()
	conn, err := w.guard.NewClient(w.addr, w.ca.ID(bankPath), opts...)
	must(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// pay pays one, and returns the total.
func (w *workload) pay(ctx context.Context, method string, opts ...grpc.CallOption) (int64, error) {
	answer := paid(w.t)
	err := w.conn.Invoke(ctx, method, payment(w.t, "dave", 1), answer, opts...)
	return get(answer, "paid").Int(), err
}
