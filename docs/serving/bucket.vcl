# Varnish before a bucket of S3, or of what speaks like it. Say which, and put it beside varnish.vcl:
#
#   varnishd -f /etc/varnish/bucket.vcl -a http=:80 -a purge=127.0.0.1:6080 -s malloc,4g
vcl 4.1;

backend bucket {
    .host = "tiles.s3.eu-central-1.amazonaws.com";
    .port = "80";
    .connect_timeout = 2s;
    .first_byte_timeout = 15s;
    .between_bytes_timeout = 15s;
}

sub vcl_recv {
    set req.backend_hint = bucket;
    # These would be lists of what is in it.
    if (req.url ~ "/([?#].*)?$" && req.method != "PURGE") {
        return (synth(404));
    }
}

sub vcl_backend_fetch {
    # This is how a bucket is named.
    set bereq.http.Host = "tiles.s3.eu-central-1.amazonaws.com";
}

sub vcl_backend_response {
    # Who may not list a bucket is told 403 of what is not there.
    if (beresp.status == 403) {
        set beresp.status = 404;
    }
    if (beresp.status == 404) {
        set beresp.http.Cache-Control = "public, max-age=60";
    }
}

sub vcl_deliver {
    unset resp.http.x-amz-request-id;
    unset resp.http.x-amz-id-2;
    unset resp.http.x-amz-version-id;
    unset resp.http.x-amz-server-side-encryption;
    unset resp.http.x-amz-storage-class;
}

include "./varnish.vcl";
