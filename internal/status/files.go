package status

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"time"

	"example.com/rolecall/internal/mesh"
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
			r.problem(o.Name, "the certificate "+unrenewed(cert, now),
				"see whether 'rolecall up' still runs")
		}
		if err == nil {
			operator.CertificateNotAfter = cert.NotAfter
		}
		r.Operators = append(r.Operators, operator)
	}
}
