# Varnish 6.0 or newer before results of fasttile: one site, from nginx with docs/serving/nginx.conf, or
# from a bucket with docs/serving/bucket.vcl. Say where the origin is. docs/SERVING.md has the reasons.
#
#   varnishd -f /etc/varnish/varnish.vcl -a http=:80 -a purge=127.0.0.1:6080 -s malloc,4g
vcl 4.1;

backend default {
    .host = "127.0.0.1";
    .port = "8080";
    .connect_timeout = 2s;
    .first_byte_timeout = 15s;
    .between_bytes_timeout = 15s;
}

sub vcl_recv {
    # No query means anything here; a bucket would understand some.
    set req.url = regsub(req.url, "[?#].*", "");
    # Of two spellings of one place, always the same, as tiles are kept and purged by it. A plus is
    # no plus to all buckets.
    set req.url = regsuball(req.url, "%2[fF]", "/");
    set req.url = regsuball(req.url, "%2[cC]", ",");
    set req.url = regsuball(req.url, "%28", "(");
    set req.url = regsuball(req.url, "%29", ")");
    set req.url = regsuball(req.url, "%40", "@");
    set req.url = regsuball(req.url, "\+", "%2B");

    if (req.method == "PURGE") {
        call fasttile_purge;
    }
    if (req.method == "OPTIONS") {
        return (synth(204));
    }
    if (req.method != "GET" && req.method != "HEAD") {
        return (synth(405));
    }
    if (req.url ~ "/(\.|%2[eE])") {
        return (synth(404));
    }
    unset req.http.Authorization;
    unset req.http.Cookie;

    # One large file, read by ranges: kept by no cache that would have to fetch it as a whole.
    if (req.url ~ "(?i)\.(szi|zip|pmtiles|mbtiles|tiff?)$") {
        return (pass);
    }
    # What is old goes out while the new is fetched, of tiles; of all else only if there is no new.
    if (req.restarts == 0 && req.url !~ "(?i)\.(jpe?g|png|webp|avif|gif)$") {
        set req.grace = 0s;
    } else {
        set req.grace = 7d;
    }
    return (hash);
}

# PURGE /maps/map.dzi, or PURGE /maps/map: that result is fetched anew, all of it and nothing else.
# Who may say so is who reaches the socket of that name, whatever stands before the other one.
sub fasttile_purge {
    if (local.socket != "purge") {
        return (synth(405));
    }
    set req.http.x-name = regsub(req.url, "/*$", "");
    set req.http.x-name = regsub(req.http.x-name,
        "(/(info|tiles)\.json|/(ImageProperties|tilemapresource)\.xml|\.(dzi|json|js|xml|html))$", "");
    if (req.http.x-name == "") {
        return (synth(400, "Name a result"));
    }
    set req.http.x-name = regsuball(req.http.x-name, "([][.^$*+?(){}|\\])", "\\\1");
    ban("obj.http.x-url ~ (?i)^" + req.http.x-name + "(/.*|_files/.*|\.[a-z]+)?$");
    return (synth(200, "Purged"));
}

# One site: whatever name it is asked for by, a tile is kept once.
sub vcl_hash {
    hash_data(req.url);
    return (lookup);
}

sub vcl_backend_response {
    set beresp.http.x-url = bereq.url;
    unset beresp.http.Set-Cookie;
    unset beresp.http.Vary;

    if (beresp.status >= 500) {
        # Rather the old one, if there is one.
        return (abandon);
    }
    if (bereq.uncacheable) {
        return (deliver);
    }
    # Compressed once, as it comes in.
    if (beresp.http.Content-Type ~ "^(application/(json|xml)|text/)") {
        set beresp.do_gzip = true;
    }
    if (beresp.status == 200 && bereq.url ~ "(?i)(/@[^/]+/|\.(jpe?g|png|webp|avif|gif)$)") {
        set beresp.ttl = 7d;
        set beresp.grace = 7d;
        set beresp.keep = 7d;
    } elseif (beresp.status == 200) {
        # Descriptors and pages: asked for anew by If-None-Match, but once a second at most.
        set beresp.ttl = 1s;
        set beresp.grace = 7d;
        set beresp.keep = 7d;
    } else {
        set beresp.ttl = 1s;
        set beresp.grace = 0s;
        set beresp.keep = 0s;
        if (beresp.status == 404) {
            set beresp.ttl = 60s;
        }
    }
    return (deliver);
}

sub vcl_backend_error {
    return (abandon);
}

sub vcl_deliver {
    if (obj.uncacheable) {
        set resp.http.X-Cache = "PASS";
    } elseif (obj.hits > 0) {
        set resp.http.X-Cache = "HIT";
    } else {
        set resp.http.X-Cache = "MISS";
    }
    # A tile stays here longer than in a browser, for which its time begins now.
    unset resp.http.Age;
    unset resp.http.x-url;
    call fasttile_headers;
}

sub vcl_synth {
    # The origin gave nothing: once more, with anything there is in the cache.
    if (resp.status == 503 && req.restarts == 0 && (req.method == "GET" || req.method == "HEAD")) {
        return (restart);
    }
    call fasttile_headers;
    if (resp.status == 404) {
        set resp.http.Cache-Control = "public, max-age=60";
    } else {
        set resp.http.Cache-Control = "no-store";
    }
    set resp.http.Content-Type = "text/plain; charset=utf-8";
    set resp.body = "" + resp.status + " " + resp.reason + {"
"};
    if (resp.status == 204) {
        unset resp.http.Content-Type;
        set resp.body = "";
    }
    return (deliver);
}

sub fasttile_headers {
    unset resp.http.Via;
    unset resp.http.X-Varnish;
    set resp.http.Access-Control-Allow-Origin = "*";
    set resp.http.Access-Control-Allow-Methods = "GET, HEAD, OPTIONS";
    set resp.http.Access-Control-Allow-Headers = "Range, If-Match, If-None-Match, If-Range";
    set resp.http.Access-Control-Expose-Headers = "Accept-Ranges, Content-Range, ETag";
    set resp.http.Access-Control-Max-Age = "86400";
    set resp.http.Cross-Origin-Resource-Policy = "cross-origin";
    set resp.http.X-Content-Type-Options = "nosniff";
}
