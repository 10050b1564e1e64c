"""The files of a bundle as strangers may send them, read strictly; imports errors alone."""
