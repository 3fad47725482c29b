package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/caarlos0/env/v11"
)

const (
	envPrefix      = "BACKCHANNEL_"
	madeSiteFile   = "site.toml" // in Data; see Source.Load
	maxConfigBytes = 4 << 20
)

// Source says where configuration comes from. Load may be called again and again: that is what a reload does.
type Source struct {
	// Path of the TOML file; "" searches BACKCHANNEL_CONFIG, ./backchannel.toml and /etc/backchannel/backchannel.toml.
	Path string
	// Environ is the environment, as os.Environ gives it.
	Environ []string
	// Override is applied last: the flags.
	Override func(*Config)
}

// Load reads, merges and checks everything. The error lists all that is wrong, one finding a line, each with file,
// line, key, and what to write. A site that serve made for itself (in Data) is loaded like an included file.
func (s Source) Load() (*Config, error) {
	path, err := s.find()
	if err != nil {
		return nil, err
	}
	c := DefaultConfig()
	t := texts{}
	if path != "" {
		if err := t.decode(path, c); err != nil {
			return nil, err
		}
		c.path, c.files = path, []string{path}
		for i := range c.Sites {
			c.Sites[i].file, c.Sites[i].nth = path, i
		}
	}
	// What a file says is relative to it; what the environment and flags say, to where the process was started.
	for _, p := range []*string{&c.Data, &c.TLSCert, &c.TLSKey} {
		*p = relativeTo(path, *p)
	}
	if err := s.applyEnvironment(c); err != nil {
		return nil, err
	}
	if s.Override != nil {
		s.Override(c)
	}
	if err := c.include(t); err != nil {
		return nil, err
	}
	if err := c.includeMade(t); err != nil {
		return nil, err
	}
	return c, c.check(t)
}

func (s Source) find() (string, error) {
	for _, p := range []string{s.Path, s.environment()[envPrefix+"CONFIG"]} {
		if p != "" {
			return filepath.Abs(p)
		}
	}
	for _, p := range []string{"backchannel.toml", "/etc/backchannel/backchannel.toml"} {
		if _, err := os.Stat(p); err == nil {
			return filepath.Abs(p)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("look for configuration: %w", err)
		}
	}
	return "", nil
}

func (s Source) environment() map[string]string { return env.ToMap(s.Environ) }

func (s Source) applyEnvironment(c *Config) error {
	vars := s.environment()
	if err := env.ParseWithOptions(c, env.Options{Prefix: envPrefix, Environment: vars}); err != nil {
		return fmt.Errorf("environment: %w", err)
	}
	known := envNames(reflect.TypeFor[Config](), envPrefix)
	known = append(known, envPrefix+"CONFIG", envPrefix+"DSN")
	for name := range vars {
		if strings.HasPrefix(name, envPrefix) && !slices.Contains(known, name) {
			// Not refused: Kubernetes sets BACKCHANNEL_PORT and its like for a service of our name.
			c.warnings = append(c.warnings, fmt.Sprintf("environment: %s is not known and has no effect; the nearest known name is %s", name, nearest(name, known)))
		}
	}
	slices.Sort(c.warnings)
	return nil
}

func envNames(t reflect.Type, prefix string) []string {
	var out []string
	for f := range t.Fields() {
		switch {
		case f.Anonymous:
			out = append(out, envNames(f.Type, prefix)...)
		case f.Tag.Get("envPrefix") != "":
			out = append(out, envNames(f.Type, prefix+f.Tag.Get("envPrefix"))...)
		case f.Tag.Get("env") != "":
			out = append(out, prefix+f.Tag.Get("env"))
		}
	}
	return out
}

// included is what a file named by include may hold.
type included struct {
	Sites []SiteConfig `toml:"site"`
}

func (c *Config) include(t texts) error {
	if c.Include == "" {
		return nil
	}
	pattern := relativeTo(c.path, c.Include)
	files, err := filepath.Glob(pattern)
	if err != nil {
		return &ConfigError{
			File: c.path, Line: t[c.path].line("include"), Key: "include",
			Problem: fmt.Sprintf("%q is not a pattern", c.Include), Write: `"sites/*.toml"`,
		}
	}
	for _, f := range files {
		if f == c.path {
			continue
		}
		if err := c.includeFile(t, f, false); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) includeMade(t texts) error {
	path := filepath.Join(c.Data, madeSiteFile)
	if _, err := os.Stat(path); err != nil || slices.Contains(c.files, path) {
		return nil // not there, or not for us to read: the data directory may belong to the broker's own user
	}
	return c.includeFile(t, path, true)
}

func (c *Config) includeFile(t texts, path string, made bool) error {
	var inc included
	if err := t.decode(path, &inc); err != nil {
		return err
	}
	c.files = append(c.files, path)
	for i := range inc.Sites {
		inc.Sites[i].file, inc.Sites[i].made, inc.Sites[i].nth = path, made, i
		c.Sites = append(c.Sites, inc.Sites[i])
	}
	return nil
}

// decode reads one file strictly into to.
func (t texts) decode(path string, to any) error {
	raw, err := readConfigFile(path)
	if err != nil {
		return err
	}
	return t.decodeText(path, raw, to)
}

func (t texts) decodeText(path string, raw []byte, to any) error {
	text := newText(string(raw))
	t[path] = text
	meta, err := toml.Decode(string(raw), to)
	if err != nil {
		return parseError(path, text, err)
	}
	var findings []error
	for _, key := range meta.Undecoded() {
		findings = append(findings, unknownKey(path, text, key.String(), to))
	}
	return joinFindings(findings)
}

func readConfigFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if info.Size() > maxConfigBytes || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read configuration: %s is not a regular file of at most %s", path, Size(maxConfigBytes))
	}
	raw, err := os.ReadFile(path) // #nosec G304 -- the operator names the file
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return raw, nil
}

func relativeTo(file, path string) string {
	if path == "" || file == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(file), path)
}
