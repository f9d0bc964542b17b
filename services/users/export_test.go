package users

// BeforeHash has a function called whenever a hash has its turn, before it is made.
func (c Config) BeforeHash(f func()) Config {
	c.beforeHash = f
	return c
}
