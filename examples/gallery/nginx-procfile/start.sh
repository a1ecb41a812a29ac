# nginx reads no variables: its configuration is made for the port that this instance is given.
sed "s/\$PORT/$PORT/" nginx.conf >"$TMPDIR/nginx.conf"
exec nginx -p "$TMPDIR" -e stderr -c "$TMPDIR/nginx.conf"
