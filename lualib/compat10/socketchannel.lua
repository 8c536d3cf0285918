-- Old name of skynet.socketchannel.
return require "skynet.socketchannel"
