package status

import (
	"crypto/x509"
	"time"

	"example.com/rolecall/pki"
)

// Report is how a mesh is at one moment. Its form as JSON is for programs.
type Report struct {
	Dir         string    `json:"dir"`
	Time        time.Time `json:"time"`
	Running     bool      `json:"running"`
	TrustDomain string    `json:"trust_domain,omitempty"`
	PID         int       `json:"pid,omitempty"` // of `rolecall up`
	Started     time.Time `json:"started,omitzero"`
	// PolicyVersion is that of roles.yaml as it lies in the folder; each process has the one that is in force there.
	PolicyVersion string             `json:"policy_version,omitempty"`
	Processes     []Process          `json:"processes"`
	Programs      []Program          `json:"programs"`
	Operators     []Operator         `json:"operators"`
	Issuers       []pki.IssuerStatus `json:"issuers"`
	RootNotAfter  time.Time          `json:"root_not_after,omitzero"` // of the root that signs
	// Act is when somebody must do something for the issuers or the root.
	Act Act `json:"act"`
	// Rotation is how far the replacement of the root is; nil: it is not being replaced.
	Rotation *Rotation `json:"rotation,omitempty"`
	// Problems are what somebody must act on, each with what to do.
	Problems []Problem `json:"problems"`
}

// Problem is one thing that somebody must act on.
type Problem struct {
	About string `json:"about"` // a process, an operator, a file
	What  string `json:"what"`
	Do    string `json:"do"`
}

// Process is the agent or a service.
type Process struct {
	Name     string `json:"name"`
	SPIFFEID string `json:"spiffe_id"`
	PID      int    `json:"pid"`
	Alive    bool   `json:"alive"`
	Restarts int    `json:"restarts"`
	Address  string `json:"address,omitempty"`
	Admin    string `json:"admin,omitempty"`
	// State is what it answers over mutual TLS, SERVING or NOT_SERVING; ANSWERS for the agent; SILENT if it does not.
	State string `json:"state"`
	// CertificateNotAfter is when the certificate that it showed just now ends.
	CertificateNotAfter time.Time `json:"certificate_not_after,omitzero"`
	Serial              string    `json:"certificate_serial,omitempty"`
	Issuer              int       `json:"issuer,omitempty"` // generation of the issuer of that certificate; 0: not known
	PolicyVersion       string    `json:"policy_version,omitempty"`
	PolicyError         string    `json:"policy_error,omitempty"`
	AuditDropped        uint64    `json:"audit_dropped"`

	certificate *x509.Certificate
}

// Rotation is the replacement of a root that is under way. The digests are SHA-256 of the roots' certificates.
type Rotation struct {
	Phase       pki.Phase  `json:"phase"`
	OldSHA256   string     `json:"old_sha256"`
	NewSHA256   string     `json:"new_sha256"`
	PreparedAt  time.Time  `json:"prepared_at"`
	ActivatedAt time.Time  `json:"activated_at,omitzero"`
	Skipped     []pki.Skip `json:"skipped"`
	Next        string     `json:"next"` // the command of the next step
}

// The states that are not a health service's.
const (
	Answers = "ANSWERS"
	Silent  = "SILENT"
	serving = "SERVING"
)

// Program is what `rolecall run` runs.
type Program struct {
	SPIFFEID            string    `json:"spiffe_id"`
	PID                 int       `json:"pid"`
	Started             time.Time `json:"started"`
	Command             []string  `json:"command"`
	CertificateNotAfter time.Time `json:"certificate_not_after,omitzero"`
}

// Operator is a person's certificate files.
type Operator struct {
	Name                string    `json:"name"`
	SPIFFEID            string    `json:"spiffe_id"`
	CertificateNotAfter time.Time `json:"certificate_not_after,omitzero"`
	Roles               []string  `json:"roles"`
}

// OK tells whether nobody needs to act.
func (r *Report) OK() bool { return len(r.Problems) == 0 }

func (r *Report) problem(about, what, do string) {
	r.Problems = append(r.Problems, Problem{About: about, What: what, Do: do})
}
