package status

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/pki"
)

// maxRoles is the largest roles.yaml that a guard reads.
const maxRoles = 4 << 20

// patience is how long an edit of roles.yaml may take to be in force everywhere before that is a problem: the file is
// watched, and read again at intervals where watching fails.
const patience = time.Minute

// policy notes the version of roles.yaml, as a guard computes it.
func (r *Report) policy(dir mesh.Dir) {
	f, err := os.Open(dir.Roles())
	if err != nil {
		r.problem("roles.yaml", err.Error(), "put it back; the services go on with what they have read last")
		return
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, io.LimitReader(f, maxRoles)); err != nil {
		r.problem("roles.yaml", err.Error(), "see whether its disk works")
		return
	}
	r.PolicyVersion = hex.EncodeToString(sum.Sum(nil)[:6])
}

func changedJustNow(path string, now time.Time) bool {
	info, err := os.Stat(path)
	return err != nil || now.Sub(info.ModTime()) < patience
}

// operators looks at the files that people's tools use.
func (r *Report) operators(file *mesh.File, now time.Time) {
	for _, o := range file.Operators {
		operator := Operator{Name: o.Name, SPIFFEID: o.ID, Roles: o.Roles}
		cert, err := readLeaf(o.Cert)
		switch {
		case err != nil:
			r.problem(o.Name, err.Error(), "stop the mesh and start it again: it issues a new one")
		case worn(cert, now):
			r.problem(o.Name, fmt.Sprintf("the certificate ends in %s and was not renewed at half of its life", cli.Span(cert.NotAfter.Sub(now))),
				"see whether 'rolecall up' still runs")
		}
		if err == nil {
			operator.CertificateNotAfter = cert.NotAfter
		}
		r.Operators = append(r.Operators, operator)
	}
}

// authority looks at the root and the issuers. What is due while the mesh is down is made when it comes up.
func (r *Report) authority(dir mesh.Dir, now time.Time) {
	bundle, err := pki.ReadBundle(dir.AuthorityBundle())
	if errors.Is(err, fs.ErrNotExist) && !r.Running {
		return // nothing was made yet
	}
	if err != nil {
		r.problem("authority", err.Error(), "restore "+dir.Authority()+" from a copy")
		return
	}
	for _, root := range bundle.X509Authorities() {
		if r.RootNotAfter.IsZero() || root.NotAfter.Before(r.RootNotAfter) {
			r.RootNotAfter = root.NotAfter
		}
		if left := root.NotAfter.Sub(now); left < root.NotAfter.Sub(root.NotBefore)/10 {
			r.problem("root", "it ends in "+cli.Span(left), "make a new mesh in another folder, and move to it, before it does")
		}
		if now.Before(root.NotBefore) {
			r.problem("clock", fmt.Sprintf("it says %s, and the root starts at %s", now.UTC().Format(time.RFC3339), root.NotBefore.UTC().Format(time.RFC3339)), "set the clock")
		}
	}
	issuers, err := pki.OpenIssuers(dir.Authority(), func() time.Time { return now })
	if err != nil {
		r.problem("authority", err.Error(), "restore "+dir.Authority()+" from a copy")
		return
	}
	r.Issuers = append(r.Issuers, issuers.Status()...)
	if r.Running {
		r.issuers(now)
	}
}

func (r *Report) issuers(now time.Time) {
	active := false
	for _, i := range r.Issuers {
		active = active || i.State == pki.Active
	}
	if !active {
		r.problem("issuers", "none is active: no certificate is renewed", "look into logs/up.log why none was made; stop the mesh and start it again")
		return
	}
	newest := r.Issuers[len(r.Issuers)-1]
	slack := newest.NotAfter.Sub(newest.PrepareNext) / 6
	if now.After(newest.PrepareNext.Add(slack)) && !newest.NotAfter.Equal(r.RootNotAfter) {
		r.problem("issuers", fmt.Sprintf("a successor of generation %d is due since %s", newest.Generation, newest.PrepareNext.UTC().Format(time.RFC3339)),
			"look into logs/up.log why none was made")
	}
}
