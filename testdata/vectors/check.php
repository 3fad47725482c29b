<?php
// Checks all vectors with nothing but what PHP (8.1 or later) has built in:  php testdata/vectors/check.php
// It is written from the contract, not from the broker, and doubles as a reading example for authors of PHP clients.
declare(strict_types=1);

$checked = 0;
$failures = [];

function load(string $name): array
{
    return json_decode(file_get_contents(__DIR__ . "/$name.json"), true, 64, JSON_THROW_ON_ERROR);
}

function equal(string $what, mixed $got, mixed $want): void
{
    global $checked, $failures;
    $checked++;
    if ($got !== $want) {
        $failures[] = "$what: got " . var_export($got, true) . ', want ' . var_export($want, true);
    }
}

function refuses(string $what, callable $fn): void
{
    try {
        $got = $fn();
    } catch (Exception) {
        equal($what, true, true);
        return;
    }
    equal($what, $got, 'a refusal');
}

// --- keys and channels -------------------------------------------------------------------------------------------

function b64url(string $bytes): string
{
    return rtrim(strtr(base64_encode($bytes), '+/', '-_'), '=');
}

function unb64url(string $text): string
{
    $bytes = base64_decode(strtr($text, '-_', '+/'), true);
    if ($bytes === false || b64url($bytes) !== $text) {
        throw new Exception('not base64url without padding');
    }
    return $bytes;
}

function subkey(string $secret, string $use): string
{
    return hash_hkdf('sha256', $secret, 32, "backchannel/v1/$use");
}

function canonical(array $properties): string
{
    return json_encode($properties,
        JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_LINE_TERMINATORS | JSON_THROW_ON_ERROR);
}

function channel_hash(string $salt, array $properties): string
{
    return b64url(substr(hash_hmac('sha256', canonical($properties), $salt, true), 0, 16));
}

function room_channel(string $parent, string $room): string
{
    if ($room === '' || strlen($room) > 256 || !preg_match('//u', $room)) {
        throw new Exception('want 1 to 256 bytes of UTF-8');
    }
    return b64url(substr(hash_hmac('sha256', $room, $parent, true), 0, 16));
}

foreach (load('keys')['cases'] as $c) {
    $secret = unb64url($c['secret']);
    foreach ($c['subkeys'] as $use => $want) {
        equal("subkey $use", bin2hex(subkey($secret, $use)), $want);
    }
    equal('bearer', "{$c['site']}.{$c['kid']}." . b64url(subkey($secret, 'api')), $c['bearer']);
    equal('webhook secret', 'whsec_' . base64_encode(subkey($secret, 'webhook')), $c['webhook_secret']);
}

$channels = load('channels');
$salt = unb64url($channels['salt']);
foreach ($channels['cases'] as $c) {
    equal('canonical JSON', canonical($c['properties']), $c['json']);
    equal('channel', channel_hash($salt, $c['properties']), $c['channel']);
}
foreach ($channels['users'] as $c) {
    equal('user channel', channel_hash($salt, ['', '@user', '', $c['id'], '']), $c['channel']);
}
foreach ($channels['sessions'] as $c) {
    equal('session channel', channel_hash($salt, ['', '@session', '', $c['id'], '']), $c['channel']);
}
foreach ($channels['invalid_properties_base64'] as $p) {
    refuses('invalid UTF-8', fn() => channel_hash($salt, array_map('base64_decode', $p)));
}

$rooms = load('rooms');
foreach ($rooms['cases'] as $c) {
    equal("room {$c['room']}", room_channel($c['parent'], $c['room']), $c['channel']);
}
foreach ($rooms['invalid_rooms_base64'] as $r) {
    refuses('bad room', fn() => room_channel('p', base64_decode($r)));
}

// --- DSN and cursor ----------------------------------------------------------------------------------------------

function parse_dsn(string $dsn): array
{
    if (!preg_match('~^(https?)://([a-z0-9][a-z0-9-]{0,31}):([a-z0-9]{1,16})\.([\w-]{43})\.([\w-]{43})@([^/?#@]+)([^?#]*)(?:\?([^#]*))?$~D', $dsn, $m)) {
        throw new Exception('DSN');
    }
    unb64url($m[4]);
    unb64url($m[5]);
    $query = $m[8] ?? '';
    $via = '';
    if ($query !== '') {
        if (!preg_match('~^via=([^&]+)$~D', $query, $v) || !preg_match('~^https?://[^/]+~', $via = urldecode($v[1]))) {
            throw new Exception('parameters');
        }
    }
    return ['site' => $m[2], 'kid' => $m[3], 'secret' => $m[4], 'salt' => $m[5],
        'public' => "$m[1]://$m[6]" . rtrim($m[7], '/'), 'via' => rtrim($via, '/')];
}

$dsn = load('dsn');
foreach ($dsn['good'] as $c) {
    $got = parse_dsn($c['dsn']);
    foreach ($got as $part => $value) {
        equal("$part of {$c['dsn']}", $value, $c[$part]);
    }
    equal('server', $got['via'] ?: $got['public'], $c['server']);
}
foreach ($dsn['bad'] as $c) {
    refuses("DSN with {$c['why']}", fn() => parse_dsn($c['text']));
}

function parse_cursor(string $cursor): array
{
    if (!preg_match('/^([0-9a-z]{8})-(0|[1-9][0-9]{0,19})$/D', $cursor, $m)
        || strlen($m[2]) === 20 && strcmp($m[2], '18446744073709551615') > 0) {
        throw new Exception('cursor');
    }
    return ['epoch' => $m[1], 'seq' => $m[2]];
}

$cursors = load('cursors');
foreach ($cursors['good'] as $c) {
    equal("epoch of {$c['cursor']}", parse_cursor($c['cursor'])['epoch'], $c['epoch']);
    equal("seq of {$c['cursor']}", parse_cursor($c['cursor'])['seq'], $c['seq']);
}
foreach ($cursors['bad'] as $c) {
    refuses("cursor with {$c['why']}", fn() => parse_cursor($c['text']));
}

// --- grants ------------------------------------------------------------------------------------------------------

class Refusal extends Exception
{
}

function need(bool $ok, string $code = 'grant_invalid'): void
{
    if (!$ok) {
        throw new Refusal($code);
    }
}

function short_text(mixed $v, int $most): bool
{
    return $v === null || is_string($v) && strlen($v) <= $most;
}

function name_ok(mixed $v, string $letters): bool
{
    return is_string($v) && preg_match("/^[$letters]{1,64}$/D", $v) === 1;
}

function check_entry(mixed $e): void
{
    need($e instanceof stdClass && name_ok($e->h ?? null, 'A-Za-z0-9_-'));
    need(!isset($e->c) || name_ok($e->c, 'A-Za-z0-9_.-'));
    need(short_text($e->ref ?? null, 256) && in_array($e->p ?? '', ['', 'member', 'watch', 'both'], true));
    need(!isset($e->last) || is_int($e->last) && $e->last >= 0 && $e->last <= 100);
    if (isset($e->f)) {
        need($e->f instanceof stdClass);
        $wanted = get_object_vars($e->f);
        need(count($wanted) <= 16 && count(array_filter($wanted, fn($v) => !is_scalar($v) && $v !== null)) === 0);
    }
}

function verify_grant(array $config, string $token, int $at): array
{
    $parts = explode('.', $token);
    need(count($parts) === 3);
    try {
        [$header, $claims] = [json_decode(unb64url($parts[0])), json_decode(unb64url($parts[1]))];
        $signature = unb64url($parts[2]);
    } catch (Exception) {
        throw new Refusal('grant_invalid');
    }
    need($header instanceof stdClass && $claims instanceof stdClass && ($header->alg ?? '') === 'HS256');
    need(is_string($claims->iss ?? null) && is_string($header->kid ?? null));
    $secret = $config['sites'][$claims->iss]['keys'][$header->kid] ?? null;
    need($secret !== null);
    $key = subkey(unb64url($secret), 'grant');
    need(hash_equals(hash_hmac('sha256', "$parts[0].$parts[1]", $key, true), $signature));
    need((array) ($claims->aud ?? []) === ['backchannel']);
    [$iat, $exp] = [$claims->iat ?? null, $claims->exp ?? null];
    need((is_int($iat) || is_float($iat)) && (is_int($exp) || is_float($exp)));
    need($iat <= $at + $config['leeway'] && $exp >= $iat);
    need($exp + $config['leeway'] > $at, 'grant_expired');
    $until = $claims->until ?? max($exp, $iat + $config['default_life']);
    need($until >= $exp && $until <= $iat + $config['max_life']);
    [$sub, $sid, $jti] = [$claims->sub ?? null, $claims->sid ?? null, $claims->jti ?? null];
    need(short_text($sub, 255) && short_text($sid, 255) && short_text($jti, 255) && "$sub$sid$jti" !== '');
    need(short_text($claims->seal ?? null, 512));
    need(!isset($claims->info) || $claims->info instanceof stdClass && strlen(json_encode($claims->info, JSON_UNESCAPED_UNICODE)) <= 256);
    need(is_array($claims->ch ?? null));
    foreach ($claims->send ?? [] as $component) {
        need(name_ok($component, 'A-Za-z0-9_.-'));
    }
    need(count($claims->ch) <= $config['max_entries'], 'too_large');
    array_map('check_entry', $claims->ch);
    return [(int) $until, $sid ? "s:$sid" : ($sub ? "u:$sub" : "j:$jti")];
}

$config = load('grants');
foreach ($config['cases'] as $c) {
    $code = '';
    try {
        [$until, $caller] = verify_grant($config, $c['token'], $c['at']);
        equal("until: {$c['name']}", $until, $c['until'] ?? null);
        equal("caller: {$c['name']}", $caller, $c['caller'] ?? null);
    } catch (Refusal $e) {
        $code = $e->getMessage();
    }
    equal("grant: {$c['name']}", $code, $c['code']);
}

// --- webhooks and seal -------------------------------------------------------------------------------------------

function verify_webhook(array $c, int $tolerance): bool
{
    if (!ctype_digit($c['timestamp']) || abs($c['at'] - (int) $c['timestamp']) > $tolerance) {
        return false;
    }
    foreach ($c['secrets'] as $secret) {
        $key = base64_decode(substr($secret, strlen('whsec_')));
        $want = 'v1,' . base64_encode(hash_hmac('sha256', "{$c['id']}.{$c['timestamp']}.{$c['body']}", $key, true));
        foreach (explode(' ', $c['signature']) as $signature) {
            if (hash_equals($want, $signature)) {
                return true;
            }
        }
    }
    return false;
}

$webhooks = load('webhooks');
foreach ($webhooks['cases'] as $c) {
    equal("webhook: {$c['name']}", verify_webhook($c, $webhooks['tolerance']), $c['valid']);
}

function unseal(string $key, string $sealed): string
{
    $b = unb64url($sealed);
    if (strlen($b) < 28) {
        throw new Exception('short');
    }
    $plain = openssl_decrypt(substr($b, 12, -16), 'aes-256-gcm', hex2bin($key), OPENSSL_RAW_DATA, substr($b, 0, 12), substr($b, -16));
    if ($plain === false) {
        throw new Exception('not sealed with this key');
    }
    return $plain;
}

foreach (load('seal')['cases'] as $c) {
    if ($c['opens']) {
        equal("seal: {$c['name']}", unseal($c['key'], $c['sealed']), $c['plain'] ?? '');
    } else {
        refuses("seal: {$c['name']}", fn() => unseal($c['key'], $c['sealed']));
    }
}

// --- frames ------------------------------------------------------------------------------------------------------

/** A parser of text/event-stream for a whole body; see check.mjs for one that takes pieces. */
function parse_stream(string $wire): array
{
    $wire = preg_replace('/^\xEF\xBB\xBF/', '', $wire);
    $lines = preg_split('/\r\n|\n|\r/', $wire);
    array_pop($lines); // what no line end ended
    [$frames, $id, $last, $type, $data, $retry] = [[], '', '', '', [], null];
    foreach ($lines as $line) {
        if ($line === '') {
            $last = $id;
            if ($data) {
                $frames[] = ['id' => $id, 'event' => $type, 'data' => implode("\n", $data)];
            }
            [$type, $data] = ['', []];
            continue;
        }
        [$name, $value] = explode(':', $line, 2) + [1 => ''];
        $value = str_starts_with($value, ' ') ? substr($value, 1) : $value;
        match (true) {
            $name === 'data' => $data[] = $value,
            $name === 'event' => $type = $value,
            $name === 'id' && !str_contains($value, "\0") => $id = $value,
            $name === 'retry' && ctype_digit($value) => $retry = (int) $value,
            default => null,
        };
    }
    return [$frames, $last, $retry];
}

function json_text(string $s): string
{
    return json_encode($s, JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_LINE_TERMINATORS);
}

function wire(array $c): string
{
    $compact = preg_replace('/("(?:[^"\\\\]|\\\\.)*+")|[ \t\r\n]+/', '$1', $c['data']);
    $replay = $c['replay'] ?? false;
    $who = isset($c['client']) ? '"user":' . json_text($c['user']) . ',"client":' . json_text($c['client']) . ',' : '';
    $at = $replay ? "\"replay\":true,\"at\":\"{$c['cursor']}\"," : '';
    return ($replay ? '' : "id: {$c['cursor']}\n") . ($c['type'] !== '' ? "event: {$c['type']}\n" : '')
        . "data: {\"channel\":\"{$c['channel']}\",\"time\":{$c['time']},$at$who\"data\":$compact}\n\n";
}

$frames = load('frames');
foreach ($frames['events'] as $c) {
    equal("frame: {$c['name']}", wire($c), $c['wire']);
    [[$f]] = parse_stream($c['wire']);
    equal("frame read: {$c['name']}", json_encode(json_decode($f['data'])->data), json_encode(json_decode($c['data'])));
}
$control = ['hello', 'heartbeat', 'channels', 'gap', 'presence', 'bye', 'peer', 'open', 'error', 'message'];
foreach ($frames['refused_types'] as $t) {
    equal("type $t", name_ok($t, 'A-Za-z0-9_.-') && !in_array($t, $control, true), false);
}
foreach ($frames['refused_data_base64'] as $d) {
    refuses("data $d", fn() => json_decode(base64_decode($d), false, 64, JSON_THROW_ON_ERROR));
}
foreach ($frames['streams'] as $c) {
    equal("stream: {$c['name']}", parse_stream($c['wire']), [$c['frames'], $c['last'], $c['retry'] ?? null]);
}

// --- filters -----------------------------------------------------------------------------------------------------

/** Prints a number as JavaScript does: the shortest digits, an exponent below 1e-6 and from 1e21 on. */
function js_number(int|float $n): string
{
    $n = (float) $n; // JavaScript has doubles only
    if ($n == 0 || is_infinite($n)) {
        return $n == 0 ? '0' : ($n > 0 ? 'Infinity' : '-Infinity');
    }
    for ($p = 0; (float) ($text = sprintf("%.{$p}e", $n)) !== $n; $p++);
    [$mantissa, $exp] = explode('e', $text);
    [$sign, $digits, $exp] = [$n < 0 ? '-' : '', str_replace(['.', '-'], '', $mantissa), (int) $exp];
    if ($exp < -6 || $exp >= 21) {
        return $sign . $digits[0] . (strlen($digits) > 1 ? '.' . substr($digits, 1) : '') . 'e' . ($exp < 0 ? '-' : '+') . abs($exp);
    }
    if ($exp < 0) {
        return $sign . '0.' . str_repeat('0', -$exp - 1) . $digits;
    }
    $digits = str_pad($digits, $exp + 1, '0');
    return $sign . substr($digits, 0, $exp + 1) . (strlen($digits) > $exp + 1 ? '.' . substr($digits, $exp + 1) : '');
}

function js_string(mixed $v): ?string
{
    return match (true) {
        is_string($v) => $v,
        is_bool($v) => $v ? 'true' : 'false',
        $v === null => 'null',
        is_int($v), is_float($v) => js_number($v),
        default => null,
    };
}

function matches(mixed $filter, mixed $data): bool
{
    $wanted = get_object_vars($filter);
    if (!$wanted || !$data instanceof stdClass) {
        return !$wanted;
    }
    foreach ($wanted as $key => $want) {
        $want = js_string($want);
        if (property_exists($data, (string) $key)) {
            $held = js_string($data->{$key}) === $want;
        } else {
            $held = $key === 'id' && is_array($data->ids ?? null) && in_array($want, array_map('js_string', $data->ids), true);
        }
        if (!$held) {
            return false;
        }
    }
    return true;
}

foreach (load('filters')['cases'] as $c) {
    equal("filter: {$c['name']}", matches(json_decode($c['filter']), json_decode($c['data'])), $c['matches']);
}

foreach ($failures as $f) {
    fwrite(STDERR, "$f\n");
}
echo "$checked checks, ", count($failures), " failed\n";
exit($failures ? 1 : 0);
