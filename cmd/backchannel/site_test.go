package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"backchannel/broker"
)

// siteFiles makes a directory with a configuration and one site, and gives the configuration's path.
func siteFiles(t *testing.T) (config string) {
	t.Helper()
	config = filepath.Join(t.TempDir(), "backchannel.toml")
	mustRun(t, "site", "add", "moodle", "--origin", "https://school.example", "--config", config)
	return config
}

func TestSiteAddWritesFilesThatServeTakes(t *testing.T) {
	config := filepath.Join(t.TempDir(), "backchannel.toml")
	r := run(t, "", nil, "site", "add", "moodle", "--config", config, "--origin", "https://School.example/", "--webhook", "http://127.0.0.1/hook.php")
	if r.code != exitOK {
		t.Fatal(r.err)
	}
	d, err := broker.ParseDSN(r.out)
	if err != nil || d.Site != "moodle" || d.Public != "http://127.0.0.1:8480" || d.Via != "" {
		t.Errorf("DSN %+v, %v", d, err)
	}
	if !strings.Contains(r.err, `allow_cidr = ["127.0.0.1/32"]`) {
		t.Errorf("did not say what it allowed: %s", r.err)
	}
	c, err := loadFile(t, config)
	if err != nil {
		t.Fatal(err)
	}
	e, ok := c.Endpoint("moodle", "x")
	if !ok || len(e.Allow) != 1 || !c.sites["moodle"].AllowsOrigin("https://school.example") {
		t.Errorf("endpoint %+v, origins %v", e, c.sites["moodle"].Origins)
	}
	file := filepath.Join(filepath.Dir(config), "sites", "moodle.toml")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s: %v %v", file, info.Mode(), err)
	}
}

func TestSiteAddRefusesWhatWouldNotWorkAndLeavesNothing(t *testing.T) {
	config := siteFiles(t)
	for want, args := range map[string][]string{
		"there is a site":           {"moodle", "--origin", "https://a.example"},
		"--origin is missing":       {"other"},
		"want 1 to 32 characters":   {"-x", "--origin", "https://a.example"},
		"is not an http or https":   {"other", "--origin", "a.example"},
		"--webhook: \"ftp://a\" is": {"other", "--origin", "https://a.example", "--webhook", "ftp://a"},
	} {
		cmd := append([]string{"site", "add", "--config", config}, args...)
		if args[0] == "-x" {
			cmd = []string{"site", "add", "--config", config, args[1], args[2], "--", args[0]}
		}
		r := run(t, "", nil, cmd...)
		if r.code != exitUsage || !strings.Contains(r.err, want) {
			t.Errorf("%v: code %d, %s", args, r.code, r.err)
		}
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(config), "sites", "*"))
	if err != nil || len(files) != 1 {
		t.Errorf("files: %v %v", files, err)
	}
}

func TestSiteAddSaysWhichIncludeIsMissing(t *testing.T) {
	config := filepath.Join(t.TempDir(), "backchannel.toml")
	write(t, config, "listen = \":0\"\n")
	r := run(t, "", nil, "site", "add", "moodle", "--origin", "https://a.example", "--config", config)
	if r.code != exitUsage || !strings.Contains(r.err, `include = "sites/*.toml"`) {
		t.Errorf("code %d: %s", r.code, r.err)
	}
}

func TestRotationKeepsTheOldKeyUntilItIsDropped(t *testing.T) {
	config := siteFiles(t)
	file := filepath.Join(filepath.Dir(config), "sites", "moodle.toml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, strings.Replace(string(text), "origins", "# a comment of the admin's\norigins", 1))
	before, err := broker.ParseDSN(mustRun(t, "site", "list", "--dsn", "--config", config))
	if err != nil {
		t.Fatal(err)
	}
	after, err := broker.ParseDSN(mustRun(t, "site", "rotate", "moodle", "--config", config))
	if err != nil || after.Key.ID != "k2" || string(after.Salt) != string(before.Salt) {
		t.Fatalf("after rotating: %v %v", after.Key, err)
	}
	c, err := loadFile(t, config)
	if err != nil || c.sites["moodle"].Key("k1") == nil || c.sites["moodle"].Key("k2") == nil {
		t.Fatalf("keys after rotating: %v", err)
	}
	if r := run(t, "", nil, "site", "rotate", "moodle", "--config", config); r.code != exitUsage || !strings.Contains(r.err, "--drop k1") {
		t.Errorf("a third key: code %d, %s", r.code, r.err)
	}
	mustRun(t, "site", "rotate", "moodle", "--drop", "k1", "--config", config)
	if c, err = loadFile(t, config); err != nil || c.sites["moodle"].Key("k1") != nil {
		t.Errorf("k1 is still there: %v", err)
	}
	if r := run(t, "", nil, "site", "rotate", "moodle", "--drop", "k2", "--config", config); r.code != exitUsage || !strings.Contains(r.err, "is the only key") {
		t.Errorf("dropping the only key: code %d, %s", r.code, r.err)
	}
	if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), "# a comment of the admin's") {
		t.Errorf("the admin's comment is gone: %v", err)
	}
}

func TestRotationLeavesAFileAloneThatItCannotChangeSafely(t *testing.T) {
	config := filepath.Join(t.TempDir(), "backchannel.toml")
	s := newSiteConfig("moodle", nil)
	text := "site = [{ name = \"moodle\", keys = [\"" + s.Keys[0] + "\"], salt = \"" + s.Salt + "\" }]\n"
	write(t, config, text)
	r := run(t, "", nil, "site", "rotate", "moodle", "--config", config)
	if r.code != exitFailed || !strings.Contains(r.err, "by hand") {
		t.Errorf("code %d: %s", r.code, r.err)
	}
	if now, err := os.ReadFile(config); err != nil || string(now) != text {
		t.Errorf("the file changed: %s %v", now, err)
	}
}

func TestSiteOfABrokerOfAnotherUserIsThatUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root adds sites for another user")
	}
	const user = 12345
	config := siteFiles(t)
	data := filepath.Join(filepath.Dir(config), "data")
	if err := errors.Join(os.Mkdir(data, 0o700), os.Chown(data, user, user)); err != nil {
		t.Fatal(err)
	}
	owner := func(path string) uint32 {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Uid
	}
	mustRun(t, "site", "add", "tsugi", "--origin", "https://tools.example", "--config", config)
	file := filepath.Join(filepath.Dir(config), "sites", "tsugi.toml")
	if owner(file) != user || owner(filepath.Dir(file)) != user {
		t.Errorf("owners: %d, %d", owner(file), owner(filepath.Dir(file)))
	}
	mustRun(t, "site", "rotate", "tsugi", "--config", config)
	if owner(file) != user {
		t.Errorf("after a rotation the owner is %d", owner(file))
	}
}

func TestDSNHasThePublicURLAndTheListenerBesideIt(t *testing.T) {
	config := siteFiles(t)
	r := run(t, "", []string{"BACKCHANNEL_PUBLIC_URL=https://school.example/rt/", "BACKCHANNEL_LISTEN=:8480"}, "site", "list", "--dsn", "--config", config)
	d, err := broker.ParseDSN(r.out)
	if err != nil || d.Public != "https://school.example/rt" || d.Via != "http://127.0.0.1:8480" {
		t.Errorf("DSN %+v, %v", d, err)
	}
}

func TestDataDirectoryIsLockedByOneProcess(t *testing.T) {
	dir := t.TempDir()
	lock, err := lockData(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockData(dir); err == nil || !strings.Contains(err.Error(), "is locked by pid") || !strings.Contains(err.Error(), "another broker runs there") {
		t.Errorf("the second lock: %v", err)
	}
	if err := lock.write(runInfo{PID: syscall.Getpid(), Public: "127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	if r, err := readRunFile(dir); err != nil || !r.alive || r.Public != "127.0.0.1:1" || r.PID != syscall.Getpid() {
		t.Errorf("run file: %+v, %v", r, err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err := readRunFile(dir); err != nil || r.alive {
		t.Errorf("after the end: %+v, %v", r, err)
	}
	again, err := lockData(dir)
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
}

func TestAdminPasswordIsMadeOnceAndKeptSecret(t *testing.T) {
	dir := t.TempDir()
	first, made, err := adminPassword(dir)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, adminPasswordFile)
	if made != path {
		t.Errorf("said it made %q", made)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	again, remade, err := adminPassword(dir)
	if err != nil || again != first || remade != "" {
		t.Errorf("the second start has another password: %v", err)
	}
	if !first.matches(strings.TrimSpace(string(text))) || first.matches("") || first.matches(string(text)) {
		t.Error("the password does not match as it should")
	}
	write(t, path, "short\n")
	if _, _, err := adminPassword(dir); err == nil || !strings.Contains(err.Error(), "want at least 12") {
		t.Errorf("a short password: %v", err)
	}
}
