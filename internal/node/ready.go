package node

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Readiness is what /readyz answers as JSON: with 200 if the service is ready, else with 503.
type Readiness struct {
	Service  string `json:"service"`
	SPIFFEID string `json:"spiffe_id"`
	Ready    bool   `json:"ready"`
	// Problems say why the service is not ready.
	Problems []string `json:"problems,omitempty"`
	// Policy is roles.yaml as the guard has it.
	Policy Policy `json:"policy"`
	// CertificateNotAfter is when the own certificate ends.
	CertificateNotAfter time.Time `json:"certificate_not_after"`
	// AuditDropped counts the audit records that were lost since the start.
	AuditDropped uint64 `json:"audit_dropped"`
}

// Policy tells which bindings are in force.
type Policy struct {
	Version string    `json:"version"`
	Loaded  time.Time `json:"loaded"`
	// Error says why the file cannot be read at present: the version above stays in force, so the service stays ready.
	Error string `json:"error,omitempty"`
}

// pingTimeout bounds how long a database may take to answer before the service counts as not ready.
const pingTimeout = 2 * time.Second

func (n *Node) readiness(ctx context.Context, serving bool) Readiness {
	guard := n.guard.Status()
	r := Readiness{
		Service:             n.config.Name,
		SPIFFEID:            n.ID.String(),
		Policy:              Policy{Version: guard.PolicyVersion, Loaded: guard.PolicyLoaded},
		CertificateNotAfter: guard.CertificateNotAfter,
		AuditDropped:        guard.AuditDropped,
	}
	if guard.PolicyError != nil {
		r.Policy.Error = guard.PolicyError.Error()
	}
	if !serving {
		r.Problems = append(r.Problems, "the server is starting or stopping")
	}
	switch {
	case guard.ID == "":
		r.Problems = append(r.Problems, "the Workload API gives no certificate any more")
	case !time.Now().Before(guard.CertificateNotAfter):
		r.Problems = append(r.Problems, "the own certificate has expired")
	}
	if db := n.database(); db != nil {
		ctx, cancel := context.WithTimeout(ctx, pingTimeout)
		defer cancel()
		if err := db.Ping(ctx); err != nil {
			r.Problems = append(r.Problems, "the database does not answer: "+err.Error())
		}
	}
	r.Ready = len(r.Problems) == 0
	return r
}

func (r Readiness) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	if !r.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(r) // the only error is a client that left
}
