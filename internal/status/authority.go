package status

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/pki"
)

// authority looks at the root and the issuers. What is due while the mesh is down is made when it comes up, if the root is
// at hand.
func (r *Report) authority(dir mesh.Dir, now time.Time) {
	bundle, err := pki.ReadBundle(dir.AuthorityBundle())
	if errors.Is(err, fs.ErrNotExist) && !r.Running {
		return // nothing was made yet
	}
	if err != nil {
		r.problem("authority", err.Error(), "restore "+dir.Authority()+" from a copy")
		return
	}
	issuers, err := pki.OpenIssuers(dir.Authority(), func() time.Time { return now })
	if err != nil {
		r.problem("authority", err.Error(), "restore "+dir.Authority()+" from a copy")
		return
	}
	r.rotation(issuers, dir)
	r.root(bundle.X509Authorities(), issuers.Rotation(), dir, now)
	r.Issuers = append(r.Issuers, issuers.Status()...)
	r.Act = NewAct(issuers, dir.Authority(), now)
	if r.Act.Must && (r.Running || r.Act.ByHand) {
		r.act(dir, now)
	}
}

// root looks at how long the root that signs is good.
func (r *Report) root(roots []*x509.Certificate, rotation pki.Rotation, dir mesh.Dir, now time.Time) {
	for _, root := range roots {
		switch {
		case rotation.Phase == pki.RotationPrepared && !root.Equal(rotation.Old), rotation.Phase == pki.RotationActivated && !root.Equal(rotation.New):
			continue
		}
		if r.RootNotAfter.IsZero() || root.NotAfter.Before(r.RootNotAfter) {
			r.RootNotAfter = root.NotAfter
		}
		if now.Before(root.NotBefore) {
			r.problem("clock", fmt.Sprintf("it says %s, and the root starts at %s", now.UTC().Format(time.RFC3339), root.NotBefore.UTC().Format(time.RFC3339)), "set the clock")
		}
		left := root.NotAfter.Sub(now)
		if left >= root.NotAfter.Sub(root.NotBefore)/10 || rotation.Phase == pki.RotationPrepared {
			continue
		}
		what := "it ends in " + cli.Span(left)
		if left < 0 {
			what = "it has ended " + cli.Span(-left) + " ago"
		}
		r.problem("root", what, "replace it before it does, with everything running: rolecall pki root rotate prepare --dir "+cli.Quote(dir.Path()))
	}
}

// rotation notes how far the replacement of the root is.
func (r *Report) rotation(issuers *pki.Issuers, dir mesh.Dir) {
	now := issuers.Rotation()
	if now.Phase == pki.NoRotation {
		return
	}
	step := "activate"
	if now.Phase == pki.RotationActivated {
		step = "retire"
	}
	r.Rotation = &Rotation{
		Phase: now.Phase, OldSHA256: digest(now.Old), NewSHA256: digest(now.New), PreparedAt: now.PreparedAt, ActivatedAt: now.ActivatedAt,
		Skipped: append([]pki.Skip{}, now.Skipped...), Next: "rolecall pki root rotate " + step + " --dir " + cli.Quote(dir.Path()),
	}
}

func digest(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// act says what somebody must do for the issuers.
func (r *Report) act(dir mesh.Dir, now time.Time) {
	about, do := "issuers", r.Act.Command
	what := fmt.Sprintf("by %s (in %s) somebody must act: %s", r.Act.By.Local().Format(time.DateTime), cli.Span(r.Act.By.Sub(now)), r.Act.Reason)
	if !r.Act.By.After(now) {
		what = r.Act.Reason
	}
	switch {
	case !r.Act.ByHand:
		do = "look into " + dir.Log("up") + " why none was made; stop the mesh and start it again"
	case !r.Act.RootAtHand:
		what += "; no root is at hand"
	}
	r.problem(about, what, do)
}

// showIssuers notes whose certificates the processes show, and which of them should have been renewed because their issuer
// was revoked.
func (r *Report) showIssuers(dir mesh.Dir) {
	for i := range r.Processes {
		p := &r.Processes[i]
		if p.certificate == nil {
			continue
		}
		n := slices.IndexFunc(r.Issuers, func(i pki.IssuerStatus) bool {
			return bytes.Equal(i.Certificate.SubjectKeyId, p.certificate.AuthorityKeyId)
		})
		if n < 0 {
			continue
		}
		p.Issuer = r.Issuers[n].Generation
		if r.Issuers[n].State == pki.Revoked {
			r.problem(p.Name, fmt.Sprintf("it shows a certificate of issuer %d, which was revoked", p.Issuer),
				"wait a few seconds for it to renew, and do not deny the issuer's key in roles.yaml before; if this stays, look into "+dir.Log(p.Name))
		}
	}
}
