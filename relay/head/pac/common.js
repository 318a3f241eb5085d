// Each rule is [kind, what, first port, last port]. The first list is asked first. A rule for a network needs the address of
// a host that is a name; it is looked up only where no rule before it has matched.
function FindProxyForURL(url, host) {
  host = String(host).toLowerCase().replace(/^\[|\]$/g, "").replace(/\.$/, "");
  var at = { host: host, port: portOf(url), words: wordsOf(host), asked: false };
  if (anyMatches(direct, at)) return "DIRECT";
  return anyMatches(through, at) ? proxy : "DIRECT";
}

function anyMatches(rules, at) {
  for (var i = 0; i < rules.length; i++) {
    if (matches(rules[i], at)) return true;
  }
  return false;
}

function matches(rule, at) {
  var what = rule[1];
  if (at.port < rule[2] || at.port > rule[3]) return false;
  switch (rule[0]) {
  case "any":
    return true;
  case "name":
    return at.host === what;
  case "below":
    return at.host.length > what.length && at.host.slice(-what.length) === what;
  }
  if (!at.words && !at.asked) {
    at.asked = true;
    at.words = wordsOf(String(dnsResolve(at.host) || ""));
  }
  return at.words !== null && inNetwork(at.words, what);
}

// inNetwork compares as many bits of an address as the last element of the network says.
function inNetwork(words, network) {
  var bits = network[network.length - 1];
  if (words.length !== network.length - 1) return false;
  for (var i = 0; bits > 0; i++, bits -= 16) {
    var shift = bits < 16 ? 16 - bits : 0;
    if (words[i] >> shift !== network[i] >> shift) return false;
  }
  return true;
}

// wordsOf is an address in words of 16 bits, two of IPv4 or eight of IPv6, or null when it is a name.
function wordsOf(s) {
  var v4 = /^(.*:)?(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(s);
  if (v4) {
    for (var i = 2; i < 6; i++) {
      if (+v4[i] > 255) return null;
    }
    var low = [+v4[2] * 256 + +v4[3], +v4[4] * 256 + +v4[5]];
    if (!v4[1]) return low;
    s = v4[1] + low[0].toString(16) + ":" + low[1].toString(16);
  }
  s = s.replace(/%.*$/, "");
  if (!/^[0-9a-f:]*:[0-9a-f:]*$/i.test(s)) return null;
  var halves = s.split("::");
  if (halves.length > 2) return null;
  var left = groups(halves[0]), right = halves.length > 1 ? groups(halves[1]) : [];
  if (!left || !right) return null;
  var missing = 8 - left.length - right.length;
  if (halves.length > 1 ? missing < 1 : missing !== 0) return null;
  while (missing-- > 0) left.push(0);
  var all = left.concat(right);
  var mapped = all.slice(0, 6).join(":") === "0:0:0:0:0:65535"; // IPv4 in IPv6
  return mapped ? all.slice(6) : all;
}

function groups(s) {
  if (s === "") return [];
  var list = s.split(":");
  for (var i = 0; i < list.length; i++) {
    if (!/^[0-9a-f]{1,4}$/i.test(list[i])) return null;
    list[i] = parseInt(list[i], 16);
  }
  return list;
}

// portOf is the port of a URL, or 0 when its scheme has none that is known.
function portOf(url) {
  var parts = /^([a-z][a-z0-9+.\-]*):\/\/([^\/?#]*)/i.exec(url);
  if (!parts) return 0;
  var port = /:(\d+)$/.exec(parts[2].replace(/^.*@/, "").replace(/^\[[^\]]*\]/, "").replace(/^[^:]*/, ""));
  if (port) return +port[1];
  return { http: 80, https: 443, ws: 80, wss: 443, ftp: 21 }[parts[1].toLowerCase()] || 0;
}
