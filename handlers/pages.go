package handlers

import (
	"cmp"
	"context"
	_ "embed" // the page of the admin listener
	"html/template"
	"slices"
	"strings"
	"time"

	"backchannel/broker"
	"backchannel/webhooks"
)

//go:embed assets/index.html
var indexHTML string

// indexPage parses the page, which is small and seldom asked for.
func indexPage() *template.Template { return template.Must(template.New("index").Parse(indexHTML)) }

// overview is what the page of state shows.
type overview struct {
	Version, Time, Unhealthy string
	Hub                      broker.HubStats
	Usage                    webhooks.Usage
	Sites                    []siteLine
	Components               []componentLine
}

type siteLine struct {
	ID            broker.SiteID
	Keys, Origins string
	Channels      int
}

type componentLine struct {
	Name                        string
	Waiting, InFlight           int
	Delivered, Rejected, Failed uint64
	Oldest                      string
}

func (s *Server) overview(ctx context.Context) overview {
	o := overview{Version: s.cfg.Version, Time: s.cfg.Now().UTC().Format(time.RFC3339), Hub: s.cfg.Hub.Stats()}
	if s.cfg.Health != nil {
		if err := s.cfg.Health(); err != nil {
			o.Unhealthy = err.Error()
		}
	}
	usage, err := s.cfg.Queue.Usage(ctx)
	if err != nil {
		o.Unhealthy = cmp.Or(o.Unhealthy, err.Error())
	}
	o.Usage = usage
	for _, site := range s.cfg.Sites.All() {
		o.Sites = append(o.Sites, s.siteLine(ctx, site))
	}
	slices.SortFunc(o.Sites, func(a, b siteLine) int { return cmp.Compare(a.ID, b.ID) })
	for _, c := range s.cfg.Messages.Stats().Components {
		o.Components = append(o.Components, s.componentLine(c))
	}
	return o
}

func (s *Server) siteLine(ctx context.Context, site *broker.Site) siteLine {
	l := siteLine{ID: site.ID, Origins: strings.Join(site.Origins, ", ")}
	kids := make([]string, 0, len(site.Keys))
	for _, k := range site.Keys {
		kids = append(kids, k.ID)
	}
	l.Keys = strings.Join(kids, ", ")
	if live, err := s.cfg.Hub.Live(ctx, site.ID); err == nil {
		l.Channels = len(live)
	}
	return l
}

func (s *Server) componentLine(c webhooks.ComponentStats) componentLine {
	l := componentLine{
		Name: string(c.Site) + "/" + string(c.Component), Waiting: c.Waiting, InFlight: c.InFlight,
		Delivered: c.Attempts.Delivered, Rejected: c.Attempts.Rejected, Failed: c.Attempts.Failed + c.Attempts.Unsent + c.Attempts.Unsure,
	}
	if !c.Oldest.IsZero() {
		l.Oldest = s.cfg.Now().Sub(c.Oldest).Round(time.Second).String()
	}
	return l
}
