package status

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/health"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/pki"
)

// maxReadiness bounds what is read of /readyz, which is a few hundred bytes.
const maxReadiness = 1 << 20

// service asks one service. Without a guard only the admin address is asked.
func (r *Report) service(ctx context.Context, dir mesh.Dir, s mesh.Service, guard *interceptors.Guard, now time.Time) {
	p := Process{
		Name: s.Name, SPIFFEID: s.ID, PID: s.PID, Alive: mesh.Alive(s.PID), Restarts: s.Restarts,
		Address: s.Address, Admin: s.Admin, State: Silent,
	}
	defer func() { r.Processes = append(r.Processes, p) }()
	log := "look into " + dir.Log(s.Name)
	if !p.Alive {
		r.problem(s.Name, fmt.Sprintf("process %d has gone", s.PID), "'rolecall up' starts it again within half a minute; "+log)
		return
	}
	var ready *node.Readiness
	var err error
	var asking sync.WaitGroup
	asking.Go(func() { ready, err = readiness(ctx, s.Admin) })
	if guard != nil {
		r.health(ctx, &p, guard, log, now)
	}
	asking.Wait()
	if err != nil {
		r.problem(s.Name, err.Error(), log)
		return
	}
	p.PolicyVersion, p.PolicyError, p.AuditDropped = ready.Policy.Version, ready.Policy.Error, ready.AuditDropped
	for _, problem := range ready.Problems {
		r.problem(s.Name, "not ready: "+problem, log)
	}
	switch {
	case ready.Policy.Error != "":
		r.problem(s.Name, fmt.Sprintf("policy %s of %s is still in force: %s", ready.Policy.Version, ready.Policy.Loaded.UTC().Format(time.RFC3339), ready.Policy.Error),
			"correct "+dir.Roles()+", see 'rolecall roles check'")
	case r.PolicyVersion != "" && ready.Policy.Version != r.PolicyVersion && !changedJustNow(dir.Roles(), now):
		r.problem(s.Name, fmt.Sprintf("policy %s is in force and roles.yaml is %s", ready.Policy.Version, r.PolicyVersion), log)
	}
	if ready.AuditDropped > 0 {
		r.problem(s.Name, fmt.Sprintf("%d audit records were lost since its start", ready.AuditDropped), "find out what keeps "+dir.Log(s.Name)+" from being written: a full or slow disk")
	}
}

// health asks over mutual TLS, and looks at the certificate that the server shows.
func (r *Report) health(ctx context.Context, p *Process, guard *interceptors.Guard, log string, now time.Time) {
	id, err := spiffeid.FromString(p.SPIFFEID)
	if err != nil {
		r.problem(p.Name, fmt.Sprintf("mesh.json names it %q: %v", p.SPIFFEID, err), "stop the mesh and start it again")
		return
	}
	answer, err := health.Check(ctx, guard, "passthrough:///"+p.Address, id)
	if err != nil {
		r.problem(p.Name, "it does not answer over mutual TLS: "+err.Error(), log)
		return
	}
	p.State = answer.Status.String()
	if !answer.Serving() {
		r.problem(p.Name, "it answers "+p.State, log)
	}
	if cert := answer.Certificate; cert != nil {
		p.CertificateNotAfter, p.Serial, p.certificate = cert.NotAfter, cert.SerialNumber.Text(16), cert
		if worn(cert, now) {
			r.problem(p.Name, "its certificate "+unrenewed(cert, now),
				"look at the agent and the authority; "+log)
		}
	}
}

// worn tells whether a certificate, which is renewed at half of its life, has less than a quarter of it left.
func worn(cert *x509.Certificate, now time.Time) bool {
	return cert.NotAfter.Sub(now) < cert.NotAfter.Sub(pki.IssuedAt(cert))/4
}

// unrenewed says of a certificate that it is worn.
func unrenewed(cert *x509.Certificate, now time.Time) string {
	if left := cert.NotAfter.Sub(now); left > 0 {
		return fmt.Sprintf("ends in %s and was not renewed at half of its life", cli.Span(left))
	}
	return fmt.Sprintf("has expired %s ago and was not renewed", cli.Span(now.Sub(cert.NotAfter)))
}

// agent notes how the agent is: err is what asking it on its control socket gave.
func (r *Report) agent(dir mesh.Dir, a mesh.Agent, err error, now time.Time) {
	p := Process{Name: "agent", SPIFFEID: a.ID, PID: a.PID, Alive: mesh.Alive(a.PID), Restarts: a.Restarts, State: Answers}
	log := "look into " + dir.Log("agent")
	switch {
	case !p.Alive:
		p.State = Silent
		r.problem("agent", fmt.Sprintf("process %d has gone", a.PID), "'rolecall up' starts it again within half a minute; "+log)
	case err != nil:
		p.State = Silent
		r.problem("agent", err.Error(), log)
	}
	if svid, err := pki.ReadCredential(dir.AgentCredential()); err != nil {
		r.problem("agent", err.Error(), "stop the mesh and start it again: it issues a new one")
	} else {
		cert := svid.Certificates[0]
		p.CertificateNotAfter, p.Serial, p.certificate = cert.NotAfter, cert.SerialNumber.Text(16), cert
		if worn(cert, now) {
			r.problem("agent", "its certificate "+unrenewed(cert, now), log)
		}
	}
	r.Processes = append(r.Processes, p)
}

// admin asks no proxy and follows nobody elsewhere: the address is on the loopback interface.
var admin = http.Client{
	Transport:     &http.Transport{Proxy: nil, DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func readiness(ctx context.Context, address string) (*node.Readiness, error) {
	if address == "" {
		return nil, errors.New("it has no admin address to ask")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return nil, fmt.Errorf("admin address %s: %w", address, err)
	}
	response, err := admin.Do(request)
	if err != nil {
		return nil, fmt.Errorf("its admin address does not answer: %w", err)
	}
	defer response.Body.Close()
	var ready node.Readiness
	if err := json.NewDecoder(io.LimitReader(response.Body, maxReadiness)).Decode(&ready); err != nil {
		return nil, fmt.Errorf("http://%s/readyz answers %s without saying how it is: %w", address, strings.ToLower(response.Status), err)
	}
	return &ready, nil
}
