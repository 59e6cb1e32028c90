"""Files of single devices: sealed to their keys, offered by signed manifests, fetched by URLs that expire."""
