package rootrotation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/pki"
)

// Examination is what stands between now and the next step.
type Examination struct {
	// Obstacles are who or what is missing, services first; empty: nothing.
	Obstacles []Obstacle `json:"obstacles"`
	// Live are the identities with certificates that have not expired, and Services the servers that were asked.
	Live     int `json:"live_identities"`
	Services int `json:"services_asked"`
	// Hint is how long agents may take to hear of a change.
	Hint time.Duration `json:"-"`
}

// Examine finds out what stands against taking the old root away. It asks the authority for its reports and every service
// for what it trusts; the error is for what makes the question itself impossible.
func Examine(ctx context.Context, issuers *pki.Issuers, m *Mesh, now time.Time) (*Examination, error) {
	rotation := issuers.Rotation()
	switch rotation.Phase {
	case pki.NoRotation:
		return nil, errors.New("no root is being replaced: begin with 'rolecall pki root rotate prepare'")
	case pki.RotationPrepared:
		return nil, errors.New("the new root is prepared and signs nothing yet: go on with 'rolecall pki root rotate activate'")
	}
	return examine(ctx, issuers, m, rotation, now)
}

// ReadyToActivate finds out whether everybody trusts the new root already. That is needed only where there is no cross
// certificate, because the key of the old root is lost.
func ReadyToActivate(ctx context.Context, issuers *pki.Issuers, m *Mesh, now time.Time) (*Examination, error) {
	rotation := issuers.Rotation()
	if rotation.Phase != pki.RotationPrepared {
		return nil, errors.New("no new root waits for being activated: see 'rolecall pki root rotate status'")
	}
	return examine(ctx, issuers, m, rotation, now)
}

func examine(ctx context.Context, issuers *pki.Issuers, m *Mesh, rotation pki.Rotation, now time.Time) (*Examination, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	f := facts{now: now, rotation: rotation, digest: pki.BundleDigest(issuers.Bundle().X509Authorities())}
	f.files = m.bundleFiles(f.digest)
	owner, err := m.owner()
	if err != nil {
		return nil, err
	}
	plain, err := newGuard(m.Source)
	if err != nil {
		return nil, err
	}
	defer func() { _ = plain.Close() }()
	peers, err := each(ctx, m.Services)
	if err != nil {
		return nil, err
	}
	err = with(plain, m.Authority, func(conn *grpc.ClientConn) error {
		f.reports, err = authorityv1.NewAuthorityServiceClient(conn).GetTrustReports(ctx, &authorityv1.GetTrustReportsRequest{},
			grpc.MaxCallRecvMsgSize(maxReports))
		if err != nil {
			return fmt.Errorf("ask the authority for its reports as %s (role authority.admin in roles.yaml is needed): %w", owner, err)
		}
		var prober *interceptors.Guard
		if rotation.Phase == pki.RotationActivated {
			leaf, err := probe(ctx, conn, owner, rotation.New)
			if err != nil {
				return fmt.Errorf("make the probe: %w", err)
			}
			if prober, err = newGuard(leaf); err != nil {
				return fmt.Errorf("make the probe: %w", err)
			}
			defer func() { _ = prober.Close() }()
		}
		f.answers = askAll(ctx, peers, plain, prober, rotation.New)
		return nil
	})
	if err != nil {
		return nil, err
	}
	f.own = owner.String()
	return &Examination{Obstacles: f.obstacles(), Live: f.identities(), Services: len(peers), Hint: f.hint()}, nil
}
